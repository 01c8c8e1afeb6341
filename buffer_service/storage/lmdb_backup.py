"""An LMDB store at one moment, as files of its keys and values, and an environment made from such files.

The moment is a read transaction, begun on the writer thread and then read by one thread at a time, a few values to
each hold of the store's lock. It needs neither a second copy on disk nor more memory than one file; but while it lasts
LMDB reuses no page that was freed since, so the store grows by what is written meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import lmdb
import msgspec

from buffer_service.errors import CorruptStoreError, UnusableBackupError
from buffer_service.storage.base import BackupFile, BackupSource, Shape
from buffer_service.storage.lmdb_format import opened
from buffer_service.storage.lmdb_load import read_header
from buffer_service.storage.lmdb_write import DATABASE_NAMES, Databases

_FILE_BYTES = 4 << 20
_VALUES_PER_HOLD = 64
_MAP_BYTES_PER_VALUE_BYTE = 3
"""A value just too long for its page takes two."""
_MAP_BYTES_MIN = 64 << 20

_Entry = tuple[int, bytes, bytes]
"""Which of DATABASE_NAMES, key, sealed value."""

_decoder = msgspec.msgpack.Decoder(list[_Entry])


def source_of(environment: lmdb.Environment, databases: Databases, lock: threading.Lock, path: Path) -> BackupSource:
    """Begin the transaction and describe what it sees; ``lock`` is held while reading, raises as ``Store.backup``."""
    transaction = environment.begin()
    header = read_header(transaction, databases.meta, path)
    count = transaction.stat(databases.rows)["entries"]
    shape = Shape(header.dimension, header.metric)
    return BackupSource("lmdb", shape, header.sequence, count, _files(_entries(transaction, databases, lock, path)))


def build(parts: Path, folder: Path) -> None:
    """Make an environment in ``folder`` from the files in ``parts``; durable on return.

    Raises UnusableBackupError for a file of another form; what the values hold is not looked at.
    """
    files = sorted(parts.iterdir())
    size = _MAP_BYTES_PER_VALUE_BYTE * sum(file.stat().st_size for file in files)
    size = (size + _MAP_BYTES_MIN) // _MAP_BYTES_MIN * _MAP_BYTES_MIN
    with lmdb.open(str(folder), map_size=size, max_dbs=len(DATABASE_NAMES), sync=False) as environment:
        databases = [environment.open_db(name) for name in DATABASE_NAMES]
        for file in files:
            try:
                entries = _decoder.decode(file.read_bytes())
                with environment.begin(write=True) as transaction:
                    for database, key, value in entries:
                        transaction.put(key, value, db=databases[database], append=True)
            except (msgspec.DecodeError, IndexError, lmdb.Error) as error:
                raise UnusableBackupError(f"{file.name} of the backup cannot be used: {error}") from error
        environment.sync(True)  # noqa: FBT003 - positional in lmdb


def _files(entries: Iterator[_Entry]) -> Iterator[BackupFile]:
    gathered: list[_Entry] = []
    size = number = 0
    for entry in entries:
        gathered.append(entry)
        size += len(entry[2])
        if size >= _FILE_BYTES:
            yield _file(number, gathered)
            gathered, size, number = [], 0, number + 1
    yield _file(number, gathered)


def _file(number: int, entries: list[_Entry]) -> BackupFile:
    data = msgspec.msgpack.encode(entries)
    return BackupFile(f"values-{number:010d}.bin", len(data), iter([data]))


def _entries(transaction: lmdb.Transaction, databases: Databases, lock: threading.Lock, path: Path) -> Iterator[_Entry]:
    """Yield every key and value, verified."""
    try:
        for number, database in enumerate(databases):
            values = iter(transaction.cursor(database))
            while True:
                with lock:
                    batch = list(islice(values, _VALUES_PER_HOLD))
                if not batch:
                    break
                for key, value in batch:
                    if opened(key, value) is None:
                        raise CorruptStoreError(
                            f"{path}: the checksum of {key.hex()} in {DATABASE_NAMES[number]!r} is wrong"
                        )
                    yield number, key, value
    except lmdb.Error as error:
        raise CorruptStoreError(f"{path}: {error}") from error
    finally:
        transaction.abort()
