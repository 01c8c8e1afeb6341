"""What a group changes in an LMDB transaction. Writer thread only."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from itertools import chain, count, islice

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
from buffer_service.storage.table import REQUESTS_REMEMBERED_MAX, Header

HEADER_KEY = b"header"

_RESERVE_SHARE = 16
_RESERVE_BYTES_MAX = 64 << 20
_PAGE_BYTES = 4096
_PAGES_PER_CHANGE = 2


@dataclass(frozen=True, slots=True)
class Databases:
    """The handles of the named databases."""

    meta: lmdb._Database
    rows: lmdb._Database
    records: lmdb._Database
    requests: lmdb._Database


DATABASE_NAMES = (b"meta", b"rows", b"records", b"requests")


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


class Writer:
    """Puts groups into transactions; remembers under which order number each request id is stored."""

    def __init__(self, databases: Databases, shape: Shape, map_size_bytes: int, request_orders: dict[str, int]) -> None:
        self._databases = databases
        self._shape = shape
        self._orders = request_orders
        self._next_order = max(request_orders.values(), default=0) + 1
        reserve_bytes = min(map_size_bytes // _RESERVE_SHARE, _RESERVE_BYTES_MAX)
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
        for experience, row in group.rows.items():
            at = key(experience)
            transaction.put(at, sealed(at, encode_row(row)), db=databases.rows)
        self._put_requests(transaction, group)
        _put_header(transaction, databases, self._shape, group.header)

    def committed(self, group: Group) -> None:
        """Follow the numbering of requests once the group is durable."""
        numbered, forgotten = self._request_changes(group)
        self._orders.update(numbered)
        self._next_order += len(numbered)
        for request_id in forgotten:
            del self._orders[request_id]

    def _request_changes(self, group: Group) -> tuple[dict[str, int], list[str]]:
        """Return the numbers of the new request ids, and the ids that are forgotten; as ``Table.remember`` will."""
        new = [request_id for request_id in group.requests if request_id not in self._orders]
        excess = max(0, len(self._orders) + len(new) - REQUESTS_REMEMBERED_MAX)
        return dict(zip(new, count(self._next_order), strict=False)), list(islice(chain(self._orders, new), excess))

    def _put_requests(self, transaction: lmdb.Transaction, group: Group) -> None:
        numbered, forgotten = self._request_changes(group)
        orders = ChainMap(numbered, self._orders)
        for request_id, answer in group.requests.items():
            at = key(orders[request_id])
            transaction.put(at, sealed(at, encode_request(request_id, answer)), db=self._databases.requests)
        for request_id in forgotten:
            transaction.delete(key(orders[request_id]), db=self._databases.requests)

    def _require_room(self, transaction: lmdb.Transaction, group: Group) -> None:
        databases = self._databases
        used = sum(
            _pages(transaction, database)
            for database in (databases.meta, databases.rows, databases.records, databases.requests)
        )
        needed = sum(
            (len(append.payload) + len(append.vector)) // _PAGE_BYTES + _PAGES_PER_CHANGE
            for append in group.appended.values()
        )
        if used + needed > self._pages_max:
            raise StorageFullError("The store has reached persistence.map_size_bytes; remove experiences or raise it")


def _pages(transaction: lmdb.Transaction, database: lmdb._Database) -> int:
    stat = transaction.stat(database)
    return int(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])


def _put_header(transaction: lmdb.Transaction, databases: Databases, shape: Shape, header: Header) -> None:
    body = encode_header(StoredHeader.of(shape, header))
    transaction.put(HEADER_KEY, sealed(HEADER_KEY, body), db=databases.meta)
