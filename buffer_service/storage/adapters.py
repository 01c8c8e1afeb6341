"""The choice of an adapter by its name in the settings."""

from __future__ import annotations

from pathlib import Path

from buffer_service.storage.base import Shape, Store
from buffer_service.storage.file_store import FileStore
from buffer_service.storage.lmdb_store import LmdbStore


def open_store(backend: str, folder: Path, shape: Shape, map_size_bytes: int) -> Store:
    """Open the store in ``folder`` with the backend ``file`` or ``lmdb``; ``map_size_bytes`` concerns lmdb alone.

    Raises StoreLockedError, IncompatibleStoreError or CorruptStoreError.
    """
    match backend:
        case "file":
            return FileStore.open(folder, shape)
        case "lmdb":
            return LmdbStore.open(folder, shape, map_size_bytes)
        case _:
            raise ValueError(f"unknown persistence backend {backend!r}; file and lmdb are known")
