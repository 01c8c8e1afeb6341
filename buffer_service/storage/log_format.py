"""The bytes of the log of the file store.

A segment is a header and frames. A frame is one committed group: the operations as MessagePack, then the records
(vector and payload) of what it appended, each with checksums of its own, so that one can be read alone. A record
whose experience was not appended by the frame's operations is a copy from an older segment: it changes no state, only
where the record is found. A frame's CRC32C is seeded with the segment's random salt and chained with the CRC of the
frame before, so neither stale bytes nor the content of an experience can pass for a frame. Little-endian; frames and
records are padded to 8 bytes. Pure functions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import google_crc32c
import msgspec

from buffer_service.errors import CorruptStoreError, IncompatibleStoreError
from buffer_service.storage.base import Shape
from buffer_service.storage.operations import Append, Operation, decode_operations, encode_operations

FORMAT_VERSION = 2
FRAME_MAGIC = b"xbf1"
SALT_BYTES = 8

_SEGMENT_MAGIC = b"xbufseg\n"
_SEGMENT = struct.Struct("<8sIIQQQ8s16sI")
_FRAME = struct.Struct("<4sQIII")
_RECORD = struct.Struct("<IIQII")
_CRC = struct.Struct("<I")
_ALIGNMENT = 8
_PADDING = bytes(_ALIGNMENT)

SEGMENT_HEADER_BYTES = _SEGMENT.size + _CRC.size
FRAME_HEADER_BYTES = _FRAME.size + 2 * _CRC.size
RECORD_HEADER_BYTES = _RECORD.size


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What stands at the start of a segment."""

    number: int
    first_sequence: int
    """Sequence of the first operation that may stand in it."""
    epoch: int
    """That of the process that wrote it, see ``epoch``."""
    salt: bytes
    previous_crc: int
    """CRC of the last frame of the segment before, 0 for the first segment."""
    shape: Shape

    def encode(self) -> bytes:
        """Return the header's bytes."""
        fields = _SEGMENT.pack(
            _SEGMENT_MAGIC,
            FORMAT_VERSION,
            self.shape.dimension,
            self.number,
            self.first_sequence,
            self.epoch,
            self.salt,
            self.shape.metric.encode(),
            self.previous_crc,
        )
        return fields + _CRC.pack(google_crc32c.value(fields))

    def takes_over(self, before: SegmentHeader, crc: int, sequence: int) -> bool:
        """Tell whether a later process went on here from the segment ``before``, of which it knew up to ``sequence``.

        ``crc`` is that of the frame with that sequence. What stands behind that frame is of the process before.
        """
        return self.epoch > before.epoch and self.previous_crc == crc and self.first_sequence == sequence + 1

    @classmethod
    def decode(cls, data: bytes, path: Path) -> SegmentHeader:
        """Parse a header; raises CorruptStoreError or, for another format, IncompatibleStoreError."""
        if len(data) < SEGMENT_HEADER_BYTES or not data.startswith(_SEGMENT_MAGIC):
            raise CorruptStoreError(f"{path}, offset 0: no segment header; restore a backup")
        _, version, dimension, number, first_sequence, epoch, salt, metric, previous_crc = _SEGMENT.unpack_from(data)
        if version != FORMAT_VERSION:
            raise IncompatibleStoreError(f"{path} has format {version}; this program reads {FORMAT_VERSION}")
        if _CRC.unpack_from(data, _SEGMENT.size)[0] != google_crc32c.value(data[: _SEGMENT.size]):
            raise CorruptStoreError(
                f"{path}, offset 0: the checksum of the segment header does not hold; restore a backup"
            )
        shape = Shape(dimension, metric.rstrip(b"\0").decode())
        return cls(number, first_sequence, epoch, salt, previous_crc, shape)


@dataclass(frozen=True, slots=True)
class Record:
    """Vector and payload of one experience."""

    id: int
    vector: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """One committed group as it was read."""

    size: int
    sequence: int
    """Sequence of the first operation; of the next one for a frame without operations."""
    previous_crc: int
    crc: int
    operations: list[Operation]
    record_bytes: int
    records: list[tuple[int, int]]
    """Id, and where the record starts, from the start of the frame."""


def encode_record(experience: int, vector: bytes, payload: bytes) -> bytes:
    """Return a record, padded."""
    head = _RECORD.pack(0, 0, experience, len(vector), len(payload))[8:]
    vector_crc = google_crc32c.extend(google_crc32c.value(head), vector)
    payload_crc = google_crc32c.extend(vector_crc, payload)
    return _padded([_CRC.pack(vector_crc), _CRC.pack(payload_crc), head, vector, payload])


def record_size(data: bytes, at: int = 0) -> int:
    """Return the padded size of the record whose header stands at ``at``; not verified."""
    _, _, _, vector_bytes, payload_bytes = _RECORD.unpack_from(data, at)
    return _aligned(RECORD_HEADER_BYTES + vector_bytes + payload_bytes)


def decode_record(data: bytes) -> Record | None:
    """Parse the record that ``data`` starts with; None when a checksum does not hold."""
    if len(data) < RECORD_HEADER_BYTES:
        return None
    _, payload_crc, experience, vector_bytes, payload_bytes = _RECORD.unpack_from(data)
    vector = read_vector(data, 0, vector_bytes)
    end = RECORD_HEADER_BYTES + vector_bytes + payload_bytes
    if vector is None or len(data) < end:
        return None
    payload = data[RECORD_HEADER_BYTES + vector_bytes : end]
    if google_crc32c.extend(_RECORD.unpack_from(data)[0], payload) != payload_crc:
        return None
    return Record(experience, vector[1], payload)


def read_payload(data: bytes) -> tuple[int, bytes] | None:
    """Return id and payload of the record that ``data`` starts with; None when the payload is cut off or damaged.

    Header and vector are not verified: the payload's checksum goes on from theirs as it is written in the header.
    """
    if len(data) < RECORD_HEADER_BYTES:
        return None
    vector_crc, payload_crc, experience, vector_bytes, payload_bytes = _RECORD.unpack_from(data)
    start = RECORD_HEADER_BYTES + vector_bytes
    payload = data[start : start + payload_bytes]
    if len(payload) != payload_bytes or google_crc32c.extend(vector_crc, payload) != payload_crc:
        return None
    return experience, payload


def read_vector(data: bytes, at: int, vector_bytes: int) -> tuple[int, bytes] | None:
    """Return id and vector of the record at ``at``; None when the checksum or the vector's size does not hold."""
    end = at + RECORD_HEADER_BYTES + vector_bytes
    if len(data) < end:
        return None
    vector_crc, _, experience, found_bytes, _ = _RECORD.unpack_from(data, at)
    covered = data[at + 8 : end]
    if found_bytes != vector_bytes or google_crc32c.value(covered) != vector_crc:
        return None
    return experience, covered[RECORD_HEADER_BYTES - 8 :]


def encode_frame(
    sequence: int, operations: list[Operation], records: list[bytes], salt: bytes, previous_crc: int
) -> tuple[bytes, int, list[int]]:
    """Return the frame, its CRC, and where each record starts in it."""
    encoded = encode_operations([_without_record(operation) for operation in operations])
    padding = _PADDING[: _aligned(len(encoded)) - len(encoded)]
    body = b"".join((encoded, padding, *records))
    first = FRAME_HEADER_BYTES + len(encoded) + len(padding)
    places = list(accumulate(map(len, records[:-1]), initial=first)) if records else []
    record_bytes = len(body) - len(encoded) - len(padding)
    head = _FRAME.pack(FRAME_MAGIC, sequence, len(encoded), record_bytes, previous_crc)
    head_crc = google_crc32c.extend(google_crc32c.value(salt), head)
    crc = google_crc32c.extend(head_crc, body)
    return b"".join((head, _CRC.pack(head_crc), _CRC.pack(crc), body)), crc, places


def decode_frame(data: bytes, at: int, salt: bytes) -> Frame | None:
    """Parse the frame at ``at``; None when there is none, it is cut short, or its checksum does not hold."""
    if len(data) - at < FRAME_HEADER_BYTES or not data.startswith(FRAME_MAGIC, at):
        return None
    _, sequence, operation_bytes, record_bytes, previous_crc = _FRAME.unpack_from(data, at)
    head_crc = google_crc32c.extend(google_crc32c.value(salt), data[at : at + _FRAME.size])
    start = at + FRAME_HEADER_BYTES
    first = start + _aligned(operation_bytes)
    end = first + record_bytes
    if _CRC.unpack_from(data, at + _FRAME.size)[0] != head_crc or end > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, start - _CRC.size)
    if google_crc32c.extend(head_crc, data[start:end]) != crc:
        return None
    records: list[tuple[int, int]] = []
    while first < end:
        records.append((_RECORD.unpack_from(data, first)[2], first - at))
        first += record_size(data, first)
    try:
        operations = decode_operations(memoryview(data)[start : start + operation_bytes])
    except msgspec.DecodeError:
        return None
    return Frame(end - at, sequence, previous_crc, crc, operations, record_bytes, records)


def _without_record(operation: Operation) -> Operation:
    """Return the operation without what the record holds."""
    if not isinstance(operation, Append):
        return operation
    return Append(
        operation.sequence,
        operation.id,
        operation.created_at,
        operation.priority,
        operation.client_id,
        operation.fingerprint,
        b"",
        b"",
    )


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padded(parts: list[bytes]) -> bytes:
    size = sum(map(len, parts))
    return b"".join((*parts, _PADDING[: _aligned(size) - size]))
