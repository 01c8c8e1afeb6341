"""The API server: its objects, how they are read, compared, watched and changed."""
