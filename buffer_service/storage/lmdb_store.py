"""The ``lmdb`` adapter: one LMDB environment, one write transaction per commit.

Databases: ``meta`` (header, format, shape), ``rows`` (id to the changing part), ``records`` (id to vector and
payload), ``requests`` and ``retired`` (order to request or client id and answer). Every value carries a checksum.
Commits come from the writer thread; reads open a short transaction on their own thread. Nobody else may open the
environment, see ``lock``.
"""

from __future__ import annotations

import errno
import logging
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb
import numpy as np
import numpy.typing as npt

from buffer_service.errors import (
    CorruptStoreError,
    IncompatibleStoreError,
    OutcomeUnknownError,
    StorageFullError,
    SupersededError,
)
from buffer_service.storage import lmdb_backup, lmdb_load, lmdb_write, moments
from buffer_service.storage.ballast import Ballast
from buffer_service.storage.base import BackupSource, Moment, RecoveryReport, Shape
from buffer_service.storage.epoch import Epoch
from buffer_service.storage.fs import FULL_ERRNOS, RealFileSystem
from buffer_service.storage.group import Group
from buffer_service.storage.lmdb_check import DATA_FILE, require_whole
from buffer_service.storage.lmdb_format import key, opened, record_payload, record_vector
from buffer_service.storage.lmdb_room import Room
from buffer_service.storage.lock import WriterLock
from buffer_service.storage.mount import require_local
from buffer_service.storage.table import Table

_READERS_MAX = 256
_IDS_PER_TRANSACTION = 1024
_PAGE_BYTES = 4096
_UNFINISHED_FOLDER = "new"
_DURABLE_FLAGS = {"sync": True, "metasync": True, "map_async": False, "lock": True, "readonly": False}

_logger = logging.getLogger(__name__)


class LmdbStore:
    """A durable store in an LMDB environment; see ``base.Store``."""

    def __init__(self, folder: Path, shape: Shape, map_size_bytes: int, lock: WriterLock) -> None:
        started = time.monotonic()
        self._path = folder / DATA_FILE
        self._shape = shape
        self._lock = lock
        self._latched: str | None = None
        self._read_lock = threading.Lock()
        """Held while reading, which releases no interpreter lock anyway, and while the environment is exchanged."""
        map_size_bytes = max(map_size_bytes, require_whole(folder)) // _PAGE_BYTES * _PAGE_BYTES
        self._epoch = Epoch(RealFileSystem(), folder)
        with _reading(self._path):
            if not self._path.exists():
                _create(folder, shape, map_size_bytes)
            self._environment = _open_environment(folder, map_size_bytes)
        try:
            with _reading(self._path):
                databases = lmdb_write.open_databases(self._environment, shape)
                loaded = lmdb_load.load(self._environment, databases, shape, self._path)
            self._databases = databases
            self._writer = lmdb_write.Writer(databases, shape, map_size_bytes, loaded.orders)
            self._table = loaded.table
            self._room = Room(self._path, map_size_bytes)
            self._ballast = Ballast(RealFileSystem(), folder)
        except BaseException:
            self._environment.close()
            raise
        self._report = RecoveryReport(0, 0, time.monotonic() - started)

    @classmethod
    def open(cls, folder: Path, shape: Shape, map_size_bytes: int) -> LmdbStore:
        """Open or create the store. ``map_size_bytes`` bounds its size on disk; a larger one of before stays.

        Raises StoreLockedError, IncompatibleStoreError or CorruptStoreError.
        """
        RealFileSystem().make_folder(folder)
        if any(folder.glob("segment-*.log")):
            raise IncompatibleStoreError(f"{folder} holds a store of the file backend; set persistence.backend=file")
        require_local(folder)
        lock = WriterLock.acquire(folder)
        try:
            return cls(folder, shape, map_size_bytes, lock)
        except BaseException:
            lock.release()
            raise

    @property
    def table(self) -> Table:
        """See Store."""
        return self._table

    @property
    def report(self) -> RecoveryReport:
        """See Store."""
        return self._report

    def commit(self, group: Group) -> None:
        """See Store."""
        if self._latched is not None:
            raise OutcomeUnknownError(self._latched)
        try:
            self._commit(group)
        except StorageFullError:
            if group.appended or not self._ballast.release():
                raise
            self._commit(group)
        self._ballast.restore()

    def payloads(self, ids: Sequence[int]) -> list[bytes | None]:
        """See Store."""
        bodies = self._bodies(ids)
        return [None if body is None else record_payload(body) for body in bodies]

    def vectors(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """See Store."""
        found = np.zeros(len(ids), bool)
        vectors = np.empty((len(ids), self._shape.dimension), np.float32)
        for position, body in enumerate(self._bodies(ids.tolist())):
            if body is not None:
                vectors[position] = np.frombuffer(record_vector(body), "<f4")
                found[position] = True
        return (ids, vectors) if found.all() else (ids[found], vectors[found])

    def live_bytes(self) -> int:
        """See Store. Whole pages of LMDB."""
        with _reading(self._path), self._environment.begin() as transaction:
            return lmdb_write.used_bytes(transaction, self._databases)

    def size_bytes(self) -> int:
        """See Store."""
        return self._path.stat().st_blocks * 512

    def backup(self) -> BackupSource:
        """See Store. Until the last file is read, the pages freed meanwhile are not used again: the store grows."""
        with _reading(self._path):
            return lmdb_backup.source_of(self._environment, self._databases, self._read_lock, self._path)

    def moment(self) -> Moment:
        """See Store. Until it is given up, the pages freed meanwhile are not used again: the store grows."""
        with _reading(self._path):
            transaction = self._environment.begin(db=self._databases.records)
        return moments.of_transaction(self._table, transaction, self._shape, self._path, self._read_lock)

    def close(self) -> None:
        """See Store."""
        self._environment.close()
        self._lock.release()

    def _commit(self, group: Group) -> None:
        try:
            self._room.require(group, self._environment.info()["last_pgno"])
            with self._environment.begin(write=True) as transaction:
                # Whoever takes over claims the epoch first and waits for LMDB's write lock then, which is held here.
                self._epoch.check()
                if group.operations:
                    self._writer.put(transaction, group)
        except SupersededError as error:
            self._latched = str(error)
            raise OutcomeUnknownError(self._latched) from error
        except lmdb.MapFullError as error:
            raise StorageFullError(
                "The store has reached persistence.map_size_bytes; remove experiences or raise it"
            ) from error
        except lmdb.Error as error:
            usable = self._is_usable()
            if usable and getattr(error, "code", None) in FULL_ERRNOS:
                raise StorageFullError("The disk is full; free space on the volume of the store") from error
            if not usable:
                self._open_for_reading()
            self._latched = (
                f"The last write may or may not be durable ({error}); restart the service to take writes again"
            )
            _logger.exception("writes stop until the store is opened again")
            raise OutcomeUnknownError(self._latched) from error
        self._writer.committed(group)

    def _is_usable(self) -> bool:
        """Tell whether LMDB still works: after a failed write of its meta page it refuses everything."""
        try:
            with self._environment.begin():
                return True
        except lmdb.Error:
            return False

    def _open_for_reading(self) -> None:
        """Open the environment again: LMDB refuses even reads once it could not write its meta page."""
        with self._read_lock, _reading(self._path):
            self._environment.close()
            self._environment = lmdb.open(str(self._path.parent), max_dbs=len(lmdb_write.DATABASE_NAMES), readonly=True)
            self._databases = lmdb_write.existing_databases(self._environment)

    def _bodies(self, ids: Sequence[int]) -> Iterator[bytes | None]:
        """Yield the verified records of live ids, in transactions short enough not to hold back the reuse of pages."""
        for first in range(0, len(ids), _IDS_PER_TRANSACTION):
            chunk = ids[first : first + _IDS_PER_TRANSACTION]
            keys = [key(experience) for experience in chunk]
            values = self._values(keys)
            for experience, at, value in zip(chunk, keys, values, strict=True):
                body = None if value is None else opened(at, value)
                if value is not None and body is None:
                    raise CorruptStoreError(f"{self._path}: the checksum of experience {experience} does not hold")
                yield body

    def _values(self, keys: list[bytes]) -> list[bytes | None]:
        with self._read_lock, _reading(self._path), self._environment.begin(db=self._databases.records) as transaction:
            return [transaction.get(at) for at in keys]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn LMDB's errors into ours."""
    try:
        yield
    except lmdb.Error as error:
        if getattr(error, "code", None) in FULL_ERRNOS:
            raise StorageFullError(f"{path}: {error}; free space on the volume of the store") from error
        raise CorruptStoreError(f"{path}: {error}; restore a backup") from error


def _create(folder: Path, shape: Shape, map_size_bytes: int) -> None:
    """Make the environment beside its place: LMDB syncs neither its first pages nor the name of its file."""
    system = RealFileSystem()
    beside = folder / _UNFINISHED_FOLDER
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    environment = _open_environment(beside, map_size_bytes)
    try:
        lmdb_write.open_databases(environment, shape)
        environment.sync(True)  # noqa: FBT003 - positional in lmdb
    finally:
        environment.close()
    system.rename(beside / DATA_FILE, folder / DATA_FILE)
    system.sync_folder(folder)
    shutil.rmtree(beside, ignore_errors=True)


def _open_environment(folder: Path, map_size_bytes: int) -> lmdb.Environment:
    environment = lmdb.open(
        str(folder),
        map_size=map_size_bytes,
        max_dbs=len(lmdb_write.DATABASE_NAMES),
        max_readers=_READERS_MAX,
        max_spare_txns=_READERS_MAX // 4,
        sync=True,
        metasync=True,
        writemap=False,
        map_async=False,
        meminit=True,
        lock=True,
    )
    environment.reader_check()
    flags = environment.flags()
    wrong = [name for name, value in _DURABLE_FLAGS.items() if flags.get(name) != value]
    if wrong or flags.get("writemap"):
        environment.close()
        raise OSError(errno.EINVAL, f"LMDB does not keep to durable settings: {', '.join(wrong) or 'writemap'}")
    return environment
