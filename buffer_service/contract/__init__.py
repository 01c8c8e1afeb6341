"""The facts that the service, the rebuild Job and the operator share: names, pointer, manifest, status.

Depends on msgspec alone, so that the operator can import it without faiss, lmdb or FastAPI.
"""
