"""Snapshots of the table: where replaying the log may start.

A snapshot is one file of blocks, each with a CRC32C chained with the block before: a header, the columns, the names
of the rows, the remembered requests, an end mark. It is written beside its name, synced, read back, and only then
renamed. Any thread.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import google_crc32c
import msgspec
import numpy as np

from buffer_service.errors import CorruptStoreError, IncompatibleStoreError
from buffer_service.storage.base import Shape
from buffer_service.storage.fs import File, FileSystem, write_durably
from buffer_service.storage.rows import COLUMNS, Header, Image, RequestAnswer

FORMAT_VERSION = 2

_NAME = re.compile(r"snapshot-(\d{20})\.bin")
_MAGIC = b"xbufsnp\n"
_START = struct.Struct("<8sI")
_BLOCK = struct.Struct("<QI")
_NAMES_PER_BLOCK = 10_000
_REQUESTS_PER_BLOCK = 1_000
_END = b"end"
_FLOATS = ("created_at", "priority")
_T = TypeVar("_T")


class SegmentFacts(msgspec.Struct, frozen=True, array_like=True):
    """What the log knew of a segment that the snapshot needs."""

    number: int
    size: int
    record_count: int
    record_bytes: int


class SnapshotHeader(msgspec.Struct, frozen=True, array_like=True):
    """The first block. Replay starts at ``offset`` of ``segment``, whose frame is chained to ``crc``."""

    dimension: int
    metric: str
    sequence: int
    next_id: int
    generation: int
    revision: int
    watermark: int
    segment: int
    offset: int
    crc: int
    segments: list[SegmentFacts]
    """The segments with live records, and the one where replay starts."""
    row_count: int
    request_count: int
    retired_count: int

    def needs(self) -> set[int]:
        """Return the segments without which the snapshot is worth nothing, before the one where replay starts."""
        return {facts.number for facts in self.segments}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is to be written, or was read."""

    header: SnapshotHeader
    image: Image


_header_decoder = msgspec.msgpack.Decoder(SnapshotHeader)
_names_decoder = msgspec.msgpack.Decoder(list[tuple[str | None, bytes]])
_requests_decoder = msgspec.msgpack.Decoder(list[tuple[str, bytes, bytes]])


def snapshot_name(sequence: int) -> str:
    """Return the file name of the snapshot that was taken after ``sequence``."""
    return f"snapshot-{sequence:020d}.bin"


def snapshot_sequences(names: Sequence[str]) -> list[int]:
    """Return the sequences of the snapshots among file names, ascending."""
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)


def new_header(
    shape: Shape, image: Image, position: tuple[int, int, int], segments: list[SegmentFacts]
) -> SnapshotHeader:
    """Gather the header; ``position`` is segment, offset and CRC."""
    state = image.header
    return SnapshotHeader(
        shape.dimension,
        shape.metric,
        state.sequence,
        state.next_id,
        state.generation,
        state.revision,
        state.watermark,
        *position,
        segments,
        image.row_count,
        len(image.requests),
        len(image.retired),
    )


def write_snapshot(system: FileSystem, folder: Path, snapshot: Snapshot, epoch: int) -> int:
    """Write and verify it; returns its size in bytes. Raises OSError, or CorruptStoreError when it reads back wrong."""
    path = folder / snapshot_name(snapshot.header.sequence)
    return write_durably(system, path, _sealed(_blocks(snapshot)), verify=lambda file: _verify(file, path), epoch=epoch)


def read_snapshot(file: File, path: Path) -> Snapshot:
    """Read a whole snapshot. Raises CorruptStoreError, or IncompatibleStoreError for another format."""
    blocks = _opened(file, path)
    header = _decoded(_header_decoder, next(blocks), path)
    columns = {}
    for name in COLUMNS:
        column = np.frombuffer(next(blocks), "<f8" if name in _FLOATS else "<i8")
        if len(column) != header.row_count:
            raise CorruptStoreError(f"{path}: {len(column)} cells of {name}, {header.row_count} rows")
        columns[name] = column
    names: list[tuple[str | None, bytes]] = []
    while len(names) < header.row_count:
        named = _decoded(_names_decoder, next(blocks), path)
        names += named
    requests = _read_answers(blocks, header.request_count, path)
    retired = _read_answers(blocks, header.retired_count, path)
    if next(blocks) != _END:
        raise CorruptStoreError(f"{path}: more rows or requests than the header says")
    state = Header(header.sequence, header.next_id, header.generation, header.revision, header.watermark)
    return Snapshot(header, Image(state, columns, names, requests, retired))


def read_header(file: File, path: Path) -> SnapshotHeader:
    """Read the first block alone; raises as ``read_snapshot`` does."""
    return _decoded(_header_decoder, next(_opened(file, path)), path)


def _blocks(snapshot: Snapshot) -> Iterator[bytes]:
    image = snapshot.image
    yield msgspec.msgpack.encode(snapshot.header)
    for name in COLUMNS:
        yield image.columns[name].astype("<f8" if name in _FLOATS else "<i8", copy=False).tobytes()
    for start in range(0, image.row_count, _NAMES_PER_BLOCK):
        yield msgspec.msgpack.encode(image.names[start : start + _NAMES_PER_BLOCK])
    for answers in (image.requests, image.retired):
        for start in range(0, len(answers), _REQUESTS_PER_BLOCK):
            batch = answers[start : start + _REQUESTS_PER_BLOCK]
            yield msgspec.msgpack.encode([(name, answer.fingerprint, answer.answer) for name, answer in batch])
    yield _END


def _read_answers(blocks: Iterator[bytes], count: int, path: Path) -> list[tuple[str, RequestAnswer]]:
    answers: list[tuple[str, RequestAnswer]] = []
    while len(answers) < count:
        batch = _decoded(_requests_decoder, next(blocks), path)
        answers += [(name, RequestAnswer(fingerprint, answer)) for name, fingerprint, answer in batch]
    return answers


def _sealed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield _START.pack(_MAGIC, FORMAT_VERSION)
    crc = 0
    for block in blocks:
        crc = google_crc32c.extend(crc, block)
        yield _BLOCK.pack(len(block), crc)
        yield block


def _opened(file: File, path: Path) -> Iterator[bytes]:
    """Yield the verified blocks; raises CorruptStoreError instead of ending early or going on after the end mark."""
    size = file.size()
    start = file.read_at(_START.size, 0)
    if len(start) < _START.size or not start.startswith(_MAGIC):
        raise CorruptStoreError(f"{path}, offset 0: not a snapshot")
    version = _START.unpack(start)[1]
    if version != FORMAT_VERSION:
        raise IncompatibleStoreError(f"{path} has format {version}; this program reads {FORMAT_VERSION}")
    offset, crc = _START.size, 0
    while True:
        head = file.read_at(_BLOCK.size, offset)
        length, expected = _BLOCK.unpack(head) if len(head) == _BLOCK.size else (size, 0)
        if offset + _BLOCK.size + length > size:
            raise CorruptStoreError(f"{path}, offset {offset}: the snapshot is cut short")
        block = file.read_at(length, offset + _BLOCK.size)
        crc = google_crc32c.extend(crc, block)
        if crc != expected:
            raise CorruptStoreError(f"{path}, offset {offset}: the checksum of a block does not hold")
        offset += _BLOCK.size + length
        yield block


def _verify(file: File, path: Path) -> None:
    for block in _opened(file, path):
        if block == _END:
            return


def _decoded(decoder: msgspec.msgpack.Decoder[_T], block: bytes, path: Path) -> _T:
    try:
        return decoder.decode(block)
    except msgspec.DecodeError as error:
        raise CorruptStoreError(f"{path}: {error}") from error
