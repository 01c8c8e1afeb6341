"""Reading the table from an LMDB environment when it is opened, every checksum of it verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lmdb
import msgspec

from buffer_service.errors import CorruptStoreError, IncompatibleStoreError
from buffer_service.storage.base import Shape, require_shape
from buffer_service.storage.lmdb_format import (
    FORMAT_VERSION,
    StoredHeader,
    decode_header,
    decode_request,
    decode_rows,
    opened,
)
from buffer_service.storage.lmdb_write import HEADER_KEY, Databases
from buffer_service.storage.table import Table


@dataclass(frozen=True, slots=True)
class Loaded:
    """The state, and under which order numbers remembered request ids and retired client ids are stored."""

    table: Table
    orders: tuple[dict[str, int], dict[str, int]]


def load(environment: lmdb.Environment, databases: Databases, shape: Shape, path: Path) -> Loaded:
    """Read the state; raises IncompatibleStoreError for another shape, CorruptStoreError for a bad value."""
    with environment.begin() as transaction:
        header = read_header(transaction, databases.meta, path)
        require_shape(path, Shape(header.dimension, header.metric), shape)
        ids, bodies = _values(transaction, databases.rows, path, "row")
        remembered = [
            _values(transaction, database, path, "remembered answer")
            for database in (databases.requests, databases.retired)
        ]
        records = transaction.stat(databases.records)["entries"]
    if records != len(ids):
        raise CorruptStoreError(f"{path}: {len(ids)} rows, but {records} records; restore a backup")
    try:
        requests, retired = ([decode_request(body) for body in answers] for _, answers in remembered)
        image = decode_rows(header.header(), ids, bodies, requests, retired)
    except (ValueError, msgspec.DecodeError) as error:
        raise CorruptStoreError(f"{path}: {error}; restore a backup") from error
    if ids and ids[-1] >= header.next_id:
        raise CorruptStoreError(
            f"{path}: experience {ids[-1]} is beyond the last one, {header.next_id - 1}; restore a backup"
        )
    request_orders, retired_orders = (
        {name: order for order, (name, _) in zip(orders, answers, strict=True)}
        for (orders, _), answers in zip(remembered, (requests, retired), strict=True)
    )
    return Loaded(Table.restored(image), (request_orders, retired_orders))


def read_header(transaction: lmdb.Transaction, meta: lmdb._Database, path: Path) -> StoredHeader:
    """Read the header; raises CorruptStoreError, or IncompatibleStoreError for another format."""
    value = transaction.get(HEADER_KEY, db=meta)
    body = None if value is None else opened(HEADER_KEY, value)
    header = None if body is None else decode_header(body)
    if header is None:
        raise CorruptStoreError(f"{path}: the header is missing or its checksum does not hold; restore a backup")
    if header.format_version != FORMAT_VERSION:
        raise IncompatibleStoreError(f"{path} has format {header.format_version}; this program reads {FORMAT_VERSION}")
    return header


def _values(
    transaction: lmdb.Transaction, database: lmdb._Database, path: Path, what: str
) -> tuple[list[int], list[bytes]]:
    numbers: list[int] = []
    bodies: list[bytes] = []
    with transaction.cursor(database) as cursor:
        for at, value in cursor:
            body = opened(at, value)
            if body is None:
                raise CorruptStoreError(f"{path}: the checksum of {what} {int.from_bytes(at, 'big')} does not hold")
            numbers.append(int.from_bytes(at, "big"))
            bodies.append(body)
    return numbers, bodies
