"""A read-only check of a whole store or of a copy of one: what a start would refuse, and every record besides.

Holds the writer lock meanwhile, where the folder can be written at all. Nothing in the folder is changed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from buffer_service.errors import CorruptStoreError, FatalError
from buffer_service.storage.base import Shape
from buffer_service.storage.fs import File, RealFileSystem
from buffer_service.storage.lmdb_check import DATA_FILE, require_whole
from buffer_service.storage.lmdb_format import key, opened
from buffer_service.storage.lmdb_load import load, read_header
from buffer_service.storage.lmdb_write import DATABASE_NAMES, existing_databases
from buffer_service.storage.lock import WriterLock
from buffer_service.storage.log import segment_name, segment_numbers
from buffer_service.storage.log_format import SEGMENT_HEADER_BYTES, SegmentHeader
from buffer_service.storage.log_recovery import recover
from buffer_service.storage.maintenance import Limits
from buffer_service.storage.snapshot import read_snapshot, snapshot_name, snapshot_sequences


def verify(folder: Path) -> list[str]:
    """Return a sentence for each problem, none for a sound store; raises StoreLockedError while it is open."""
    if not folder.is_dir():
        return [f"{folder} is not a folder"]
    with locked(folder):
        return [*damaged_snapshots(folder).values(), *problems_beside_snapshots(folder)]


def damaged_snapshots(folder: Path) -> dict[Path, str]:
    """Return what is wrong with each damaged snapshot of a file store; the caller holds the writer lock."""
    system = Unchanged()
    damaged: dict[Path, str] = {}
    for sequence in snapshot_sequences(system.names(folder)):
        path = folder / snapshot_name(sequence)
        try:
            read_snapshot(system.open(path), path)
        except FatalError as error:
            damaged[path] = str(error)
    return damaged


def problems_beside_snapshots(folder: Path) -> Iterator[str]:
    """Yield what is wrong with a store, but for snapshots that it can do without; the caller holds the writer lock."""
    return _problems_of_lmdb(folder) if (folder / DATA_FILE).exists() else _problems_of_files(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the writer lock, where the folder can be written at all; raises StoreLockedError."""
    try:
        lock = WriterLock.acquire(folder)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _problems_of_files(folder: Path) -> Iterator[str]:
    system = Unchanged()
    names = system.names(folder)
    numbers = segment_numbers(names)
    if not numbers:
        yield f"{folder} holds no store"
        return
    try:
        path = folder / segment_name(numbers[-1])
        header = SegmentHeader.decode(system.open(path).read_at(SEGMENT_HEADER_BYTES, 0), path)
        found = recover(system, folder, header.shape, Limits().segment_bytes)
    except FatalError as error:
        yield str(error)
        return
    for row in found.table.rows():
        try:
            record = found.log.read(row.place)
        except CorruptStoreError as error:
            yield f"experience {row.id}: {error}"
        else:
            if record is None or record[1].id != row.id:
                yield f"experience {row.id} is not where the snapshot says"


def _problems_of_lmdb(folder: Path) -> Iterator[str]:
    path = folder / DATA_FILE
    try:
        require_whole(folder)
        # The writer lock is held, so LMDB's own, for which it would write, are not needed.
        with lmdb.open(str(folder), max_dbs=len(DATABASE_NAMES), readonly=True, lock=False) as environment:
            databases = existing_databases(environment)
            with environment.begin() as transaction:
                header = read_header(transaction, databases.meta, path)
            table = load(environment, databases, Shape(header.dimension, header.metric), path).table
            for row in table.rows():
                with environment.begin(db=databases.records) as transaction:
                    value = transaction.get(key(row.id))
                if value is None or opened(key(row.id), value) is None:
                    yield f"experience {row.id}: {path}: the checksum does not hold, or the record is missing"
    except (FatalError, lmdb.Error) as error:
        yield str(error)


class _UnchangedFile:
    """A file that can be read, and seems to be written."""

    def __init__(self, file: File | None) -> None:
        self._file = file

    def write_at(self, data: bytes, offset: int) -> None:
        """See File."""

    def read_at(self, size: int, offset: int) -> bytes:
        """See File."""
        return b"" if self._file is None else self._file.read_at(size, offset)

    def watch(self, size: int) -> Callable[[], bytes]:
        """See File."""
        return lambda: self.read_at(size, 0)

    def sync(self) -> None:
        """See File."""

    def truncate(self, size: int) -> None:
        """See File."""

    def allocate(self, size: int) -> None:
        """See File."""

    def forget_cache(self) -> None:
        """See File."""

    def size(self) -> int:
        """See File."""
        return 0 if self._file is None else self._file.size()


class Unchanged(RealFileSystem):
    """The real files, and nothing happens to them."""

    def create(self, path: Path) -> File:  # noqa: ARG002 - a file that takes everything needs no path
        """See FileSystem."""
        return _UnchangedFile(None)

    def open(self, path: Path) -> File:
        """See FileSystem."""
        return _UnchangedFile(self.open_to_read(path))

    def rename(self, source: Path, target: Path) -> None:
        """See FileSystem."""

    def remove(self, path: Path) -> None:
        """See FileSystem."""

    def sync_folder(self, folder: Path) -> None:
        """See FileSystem."""
