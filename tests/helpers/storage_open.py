"""Both adapters on real files, opened the same way; the file store with limits that make its maintenance act soon."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

from buffer_service.storage.base import Store
from buffer_service.storage.file_store import FileStore
from buffer_service.storage.fs import RealFileSystem
from buffer_service.storage.lmdb_store import LmdbStore
from buffer_service.storage.lock import WriterLock
from tests.helpers.storage_model import SHAPE, Model, group_of, random_operations
from tests.helpers.storage_simulation import SMALL

BACKENDS = ("file", "lmdb")
MAP_SIZE_BYTES = 4 << 20


def open_real(backend: str, folder: Path) -> Store:
    """Open or create the store; the caller closes it."""
    if backend == "lmdb":
        return LmdbStore.open(folder, SHAPE, MAP_SIZE_BYTES)
    system = RealFileSystem()
    system.make_folder(folder)
    lock = WriterLock.acquire(folder)
    return FileStore(system, folder, SHAPE, ThreadPoolExecutor(1), SMALL, lock.release)


@contextmanager
def opened(backend: str, folder: Path) -> Iterator[Store]:
    """Open or create the store and close it in the end."""
    store = open_real(backend, folder)
    try:
        yield store
    finally:
        store.close()


def settle(store: Store) -> None:
    """Wait until nothing is written or removed in the background, which only the next commit begins again."""
    if isinstance(store, FileStore):
        store._background.submit(lambda: None).result()


def commit_random(store: Store, model: Model, random: Random, count: int = 4) -> Model:
    """Commit and publish random operations that follow the model; returns the model after them."""
    operations = random_operations(random, model, count)
    group = group_of(store, operations)
    store.commit(group)
    group.publish()
    after = model.copy()
    for operation in operations:
        after.apply(operation)
    return after


def fill(store: Store, commits: int, seed: int = 0) -> Model:
    """Commit random groups to an empty store; returns its model."""
    model, random = Model(), Random(seed)
    for _ in range(commits):
        model = commit_random(store, model, random)
    return model
