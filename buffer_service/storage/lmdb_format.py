"""How rows, records and the header are written as LMDB values: little-endian fields, each value with its own CRC32C.

LMDB has no checksums of its own, so every value carries one, seeded with its key. Pure functions; any thread.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import google_crc32c
import msgspec
import numpy as np

from buffer_service.storage.base import Shape
from buffer_service.storage.rows import COLUMNS, Header, Image, RequestAnswer, Row

FORMAT_VERSION = 2

_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<I")
_ROW = struct.Struct("<qddqqqqiI")
_ROW_FIELDS = np.dtype(
    [
        ("version", "<i8"),
        ("created_at", "<f8"),
        ("priority", "<f8"),
        ("search_retrievals", "<i8"),
        ("sample_retrievals", "<i8"),
        ("outcomes", "<i8"),
        ("successes", "<i8"),
        ("client_bytes", "<i4"),
        ("fingerprint_bytes", "<u4"),
    ]
)
_NO_CLIENT = -1


class StoredHeader(msgspec.Struct, frozen=True, array_like=True):
    """The value under the one key of the meta database."""

    format_version: int
    dimension: int
    metric: str
    sequence: int
    next_id: int
    generation: int
    revision: int
    watermark: int

    @classmethod
    def of(cls, shape: Shape, header: Header) -> StoredHeader:
        """Gather what is stored."""
        return cls(
            FORMAT_VERSION,
            shape.dimension,
            shape.metric,
            header.sequence,
            header.next_id,
            header.generation,
            header.revision,
            header.watermark,
        )

    def header(self) -> Header:
        """Return the scalars of the state."""
        return Header(self.sequence, self.next_id, self.generation, self.revision, self.watermark)


_header_decoder = msgspec.msgpack.Decoder(StoredHeader)
_request_decoder = msgspec.msgpack.Decoder(tuple[str, bytes, bytes])


def key(number: int) -> bytes:
    """Return the key of an id or an order number; keys sort as the numbers do."""
    return number.to_bytes(8, "big")


def sealed(at: bytes, body: bytes) -> bytes:
    """Return a value for the key ``at``: the checksum of key and body, then the body."""
    return _CRC.pack(google_crc32c.extend(google_crc32c.value(at), body)) + body


def opened(at: bytes, value: bytes) -> bytes | None:
    """Return the body of a sealed value, None when its checksum does not hold."""
    body = value[_CRC.size :]
    if len(value) < _CRC.size or _CRC.unpack_from(value)[0] != google_crc32c.extend(google_crc32c.value(at), body):
        return None
    return body


def encode_header(header: StoredHeader) -> bytes:
    """Return the body of the header's value."""
    return msgspec.msgpack.encode(header)


def decode_header(body: bytes) -> StoredHeader | None:
    """Parse it, None when it is not one."""
    try:
        return _header_decoder.decode(body)
    except msgspec.DecodeError:
        return None


def encode_request(request_id: str, answer: RequestAnswer) -> bytes:
    """Return the body of a remembered request."""
    return msgspec.msgpack.encode((request_id, answer.fingerprint, answer.answer))


def decode_request(body: bytes) -> tuple[str, RequestAnswer]:
    """Parse it; raises msgspec.DecodeError."""
    request_id, fingerprint, answer = _request_decoder.decode(body)
    return request_id, RequestAnswer(fingerprint, answer)


def encode_row(row: Row) -> bytes:
    """Return the body of a row."""
    client = b"" if row.client_id is None else row.client_id.encode()
    return b"".join(
        (
            _ROW.pack(
                row.version,
                row.created_at,
                row.priority,
                row.search_retrievals,
                row.sample_retrievals,
                row.outcomes,
                row.successes,
                _NO_CLIENT if row.client_id is None else len(client),
                len(row.fingerprint),
            ),
            client,
            row.fingerprint,
        )
    )


def decode_rows(
    header: Header,
    ids: Sequence[int],
    bodies: Sequence[bytes],
    requests: list[tuple[str, RequestAnswer]],
    retired: list[tuple[str, RequestAnswer]],
) -> Image:
    """Return the table's image; raises ValueError when a body is shorter than it says."""
    fixed = np.frombuffer(b"".join([body[: _ROW.size] for body in bodies]), _ROW_FIELDS)
    columns = {name: fixed[name] for name in COLUMNS if name not in ("ids", "place")}
    columns["ids"] = np.array(ids, np.int64)
    columns["place"] = np.zeros(len(ids), np.int64)
    names: list[tuple[str | None, bytes]] = []
    lengths = zip(bodies, fixed["client_bytes"].tolist(), fixed["fingerprint_bytes"].tolist(), strict=True)
    for body, client_bytes, fingerprint_bytes in lengths:
        middle = _ROW.size + max(client_bytes, 0)
        if len(body) != middle + fingerprint_bytes:
            raise ValueError("a row is shorter than it says")
        names.append((None if client_bytes == _NO_CLIENT else body[_ROW.size : middle].decode(), body[middle:]))
    return Image(header, columns, names, requests, retired)


def encode_record(payload: bytes, vector: bytes) -> bytes:
    """Return the body of a record."""
    return b"".join((_RECORD.pack(len(vector)), vector, payload))


def record_vector(body: bytes) -> bytes:
    """Return the vector of a record whose checksum holds."""
    return body[_RECORD.size : _RECORD.size + _RECORD.unpack_from(body)[0]]


def record_payload(body: bytes) -> bytes:
    """Return the payload of a record whose checksum holds."""
    return body[_RECORD.size + _RECORD.unpack_from(body)[0] :]
