"""What a group changes in an LMDB transaction. Writer thread only."""

from __future__ import annotations

from collections import ChainMap
from itertools import chain, count, islice
from typing import NamedTuple

import lmdb

from buffer_service.errors import StorageFullError
from buffer_service.storage.base import Shape
from buffer_service.storage.group import Group
from buffer_service.storage.lmdb_format import (
    StoredHeader,
    encode_header,
    encode_record,
    encode_request,
    encode_row,
    key,
    sealed,
)
from buffer_service.storage.rows import Header, RequestAnswer
from buffer_service.storage.table import REMEMBERED_MAX

HEADER_KEY = b"header"

_RESERVE_SHARE = 16
_RESERVE_BYTES_MIN = 256 << 10
_RESERVE_BYTES_MAX = 64 << 20
_PAGE_BYTES = 4096
_PAGES_PER_CHANGE = 2


class Databases(NamedTuple):
    """The handles of the named databases."""

    meta: lmdb._Database
    rows: lmdb._Database
    records: lmdb._Database
    requests: lmdb._Database
    retired: lmdb._Database


DATABASE_NAMES = (b"meta", b"rows", b"records", b"requests", b"retired")


def existing_databases(environment: lmdb.Environment) -> Databases:
    """Return the databases of a store that is not new."""
    return Databases(*(environment.open_db(name, create=False) for name in DATABASE_NAMES))


def open_databases(environment: lmdb.Environment, shape: Shape) -> Databases:
    """Open the databases; an environment without a header is a new store and gets one."""
    with environment.begin(write=True) as transaction:
        databases = Databases(*(environment.open_db(name, txn=transaction) for name in DATABASE_NAMES))
        if transaction.get(HEADER_KEY, db=databases.meta) is None and transaction.stat(databases.rows)["entries"] == 0:
            _put_header(transaction, databases, shape, Header())
    return databases


class _Answers:
    """Remembered answers: under which order number each is stored."""

    def __init__(self, database: lmdb._Database, orders: dict[str, int]) -> None:
        self._database = database
        self._orders = orders
        self._next = max(orders.values(), default=0) + 1

    def put(self, transaction: lmdb.Transaction, answers: dict[str, RequestAnswer]) -> None:
        """Put new answers and delete the oldest, as ``table.remember`` will forget them."""
        numbered, forgotten = self._changes(answers)
        orders = ChainMap(numbered, self._orders)
        for name, answer in answers.items():
            at = key(orders[name])
            transaction.put(at, sealed(at, encode_request(name, answer)), db=self._database)
        for name in forgotten:
            transaction.delete(key(orders[name]), db=self._database)

    def committed(self, answers: dict[str, RequestAnswer]) -> None:
        """Follow the numbering once the group is durable."""
        numbered, forgotten = self._changes(answers)
        self._orders.update(numbered)
        self._next += len(numbered)
        for name in forgotten:
            del self._orders[name]

    def _changes(self, answers: dict[str, RequestAnswer]) -> tuple[dict[str, int], list[str]]:
        """Return the numbers of the new names, and the names that are forgotten."""
        new = [name for name in answers if name not in self._orders]
        excess = max(0, len(self._orders) + len(new) - REMEMBERED_MAX)
        return dict(zip(new, count(self._next), strict=False)), list(islice(chain(self._orders, new), excess))


class Writer:
    """Puts groups into transactions; ``orders`` are those of the requests and of the retired client ids."""

    def __init__(
        self, databases: Databases, shape: Shape, map_size_bytes: int, orders: tuple[dict[str, int], dict[str, int]]
    ) -> None:
        self._databases = databases
        self._shape = shape
        self._requests = _Answers(databases.requests, orders[0])
        self._retired = _Answers(databases.retired, orders[1])
        reserve_bytes = min(max(map_size_bytes // _RESERVE_SHARE, _RESERVE_BYTES_MIN), _RESERVE_BYTES_MAX)
        self._pages_max = (map_size_bytes - reserve_bytes) // _PAGE_BYTES

    def put(self, transaction: lmdb.Transaction, group: Group) -> None:
        """Put all changes. Raises StorageFullError where appends would use up what removals need, and LMDB's errors."""
        if group.appended:
            self._require_room(transaction, group)
        databases = self._databases
        for experience in sorted(group.dropped):
            at = key(experience)
            transaction.delete(at, db=databases.records)
            transaction.delete(at, db=databases.rows)
        for experience, append in group.appended.items():
            at = key(experience)
            body = encode_record(append.payload, append.vector)
            transaction.put(at, sealed(at, body), db=databases.records, append=True)
        for row in (*group.rows.values(), *group.counted_rows()):
            at = key(row.id)
            transaction.put(at, sealed(at, encode_row(row)), db=databases.rows)
        self._requests.put(transaction, group.requests)
        self._retired.put(transaction, group.retired)
        _put_header(transaction, databases, self._shape, group.header)

    def committed(self, group: Group) -> None:
        """Follow the numbering of answers once the group is durable."""
        self._requests.committed(group.requests)
        self._retired.committed(group.retired)

    def _require_room(self, transaction: lmdb.Transaction, group: Group) -> None:
        databases = self._databases
        used = used_bytes(transaction, databases) // _PAGE_BYTES
        needed = sum(
            (len(append.payload) + len(append.vector)) // _PAGE_BYTES + _PAGES_PER_CHANGE
            for append in group.appended.values()
        )
        if used + needed > self._pages_max:
            raise StorageFullError("The store has reached persistence.map_size_bytes; remove experiences or raise it")


def used_bytes(transaction: lmdb.Transaction, databases: Databases) -> int:
    """Return the bytes of the pages that hold something."""
    return _PAGE_BYTES * sum(_pages(transaction, database) for database in databases)


def _pages(transaction: lmdb.Transaction, database: lmdb._Database) -> int:
    stat = transaction.stat(database)
    return int(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])


def _put_header(transaction: lmdb.Transaction, databases: Databases, shape: Shape, header: Header) -> None:
    body = encode_header(StoredHeader.of(shape, header))
    transaction.put(HEADER_KEY, sealed(HEADER_KEY, body), db=databases.meta)
