"""The HTTP API. FastAPI for what is rare, plain ASGI for the hot paths; errors are RFC 9457 problem documents."""
