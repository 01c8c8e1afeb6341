"""A store at one moment, row by row: of one that is in use, and of one that nobody has open.

Of a file store the segments of the moment are held open, of an LMDB store a read transaction, so what is evicted
meanwhile is still read. The table is copied: about a hundred bytes a row.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import lmdb

from buffer_service.errors import CorruptStoreError, InvalidRequestError
from buffer_service.storage.base import Moment, Shape
from buffer_service.storage.lmdb_check import DATA_FILE, require_whole
from buffer_service.storage.lmdb_format import key, opened, record_payload, record_vector
from buffer_service.storage.lmdb_load import load, read_header
from buffer_service.storage.lmdb_write import DATABASE_NAMES, existing_databases
from buffer_service.storage.log import Log, segment_name, segment_numbers
from buffer_service.storage.log_format import SEGMENT_HEADER_BYTES, SegmentHeader
from buffer_service.storage.log_recovery import recover
from buffer_service.storage.maintenance import Limits
from buffer_service.storage.table import Table
from buffer_service.storage.verify import Unchanged, locked

_IDS_PER_HOLD = 64


def of_log(table: Table, log: Log, shape: Shape) -> Moment:
    """Return the moment of a file store; nobody else changes the set of this log's segments."""
    image = table.image()
    ids: list[int] = image.columns["ids"].astype(int).tolist()
    places: list[int] = image.columns["place"].astype(int).tolist()
    return Moment(shape, image, _records_of_log(log, ids, places))


def of_transaction(
    table: Table,
    transaction: lmdb.Transaction,
    shape: Shape,
    path: Path,
    lock: threading.Lock | nullcontext[None],
) -> Moment:
    """Return the moment of an LMDB store; the read transaction is on its records, ``lock`` is held while reading."""
    image = table.image()
    ids: list[int] = image.columns["ids"].astype(int).tolist()
    return Moment(shape, image, _records_of_transaction(transaction, ids, path, lock))


@contextmanager
def moment_in(folder: Path) -> Iterator[Moment]:
    """Yield what the store in a folder holds, changing nothing.

    Raises StoreLockedError while it is open elsewhere, CorruptStoreError, IncompatibleStoreError, and
    InvalidRequestError where there is no store.
    """
    if not folder.is_dir():
        raise InvalidRequestError(f"{folder} is not a folder")
    with locked(folder):
        if (folder / DATA_FILE).exists():
            with _environment_in(folder) as moment:
                yield moment
        else:
            yield _log_in(folder)


def _log_in(folder: Path) -> Moment:
    system = Unchanged()
    numbers = segment_numbers(system.names(folder))
    if not numbers:
        raise InvalidRequestError(f"{folder} holds no store; give what xbuf serve was given as --data")
    path = folder / segment_name(numbers[-1])
    shape = SegmentHeader.decode(system.open(path).read_at(SEGMENT_HEADER_BYTES, 0), path).shape
    found = recover(system, folder, shape, Limits().segment_bytes)
    return of_log(found.table, found.log, shape)


@contextmanager
def _environment_in(folder: Path) -> Iterator[Moment]:
    path = folder / DATA_FILE
    require_whole(folder)
    try:
        # The writer lock is held, so LMDB's own, for which it would write, are not needed.
        with lmdb.open(str(folder), max_dbs=len(DATABASE_NAMES), readonly=True, lock=False) as environment:
            databases = existing_databases(environment)
            with environment.begin() as transaction:
                header = read_header(transaction, databases.meta, path)
            shape = Shape(header.dimension, header.metric)
            table = load(environment, databases, shape, path).table
            transaction = environment.begin(db=databases.records)
            yield of_transaction(table, transaction, shape, path, nullcontext())
    except lmdb.Error as error:
        raise CorruptStoreError(f"{path}: {error}; restore a backup") from error


def _records_of_log(log: Log, ids: Sequence[int], places: Sequence[int]) -> Iterator[tuple[bytes, bytes]]:
    for experience, place in zip(ids, places, strict=True):
        found = log.read(place)
        if found is None or found[1].id != experience:
            raise CorruptStoreError(f"experience {experience} is not where the table says")
        yield found[1].vector, found[1].payload


def _records_of_transaction(
    transaction: lmdb.Transaction, ids: Sequence[int], path: Path, lock: threading.Lock | nullcontext[None]
) -> Iterator[tuple[bytes, bytes]]:
    try:
        for start in range(0, len(ids), _IDS_PER_HOLD):
            some = ids[start : start + _IDS_PER_HOLD]
            with lock:
                values = [transaction.get(key(experience)) for experience in some]
            for experience, value in zip(some, values, strict=True):
                body = None if value is None else opened(key(experience), value)
                if body is None:
                    raise CorruptStoreError(f"{path}: the checksum of experience {experience} does not hold")
                yield record_vector(body), record_payload(body)
    except lmdb.Error as error:
        raise CorruptStoreError(f"{path}: {error}") from error
    finally:
        transaction.abort()
