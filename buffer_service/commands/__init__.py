"""The commands of ``xbuf`` that keep a buffer: backup, restore, repair."""
