"""Cutting the log of a file store behind an earlier sequence number, in a copy that nobody has open.

A frame is one commit and may carry the requests of many callers, so the cut may go through it: the frame is written
again with the operations up to the sequence and the records that these need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from buffer_service.errors import UnusableBackupError
from buffer_service.storage.fs import RealFileSystem
from buffer_service.storage.log import segment_name, segment_numbers
from buffer_service.storage.log_format import (
    SEGMENT_HEADER_BYTES,
    Frame,
    SegmentHeader,
    decode_frame,
    encode_frame,
    record_size,
)
from buffer_service.storage.operations import Append, Evict, Remove
from buffer_service.storage.snapshot import read_header, snapshot_name, snapshot_sequences


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where the log ends, and what is written there."""

    segment: int
    offset: int
    rest: bytes


def cut(folder: Path, sequence: int, newest: int) -> None:
    """Take the store back from ``newest``, where it is, to ``sequence``; durable on return.

    Raises UnusableBackupError, which names what the log covers, and CorruptStoreError. The snapshots are readable.
    """
    names = RealFileSystem().names(folder)
    snapshots, segments = snapshot_sequences(names), segment_numbers(names)
    from_start = set(range(1, segments[-1] + 1)) <= set(segments)
    oldest = 0 if from_start or not snapshots else snapshots[0]
    if not oldest <= sequence <= newest:
        raise UnusableBackupError(
            f"sequence {sequence} is not covered: the backup's log goes from {oldest} to {newest}; choose one of these"
        )
    found = _find(folder, sequence, [number for number in snapshots if number <= sequence], segments[-1])
    if found is not None:
        _apply(folder, found, sequence, snapshots, segments)


def _find(folder: Path, sequence: int, snapshots: list[int], last: int) -> _Cut | None:
    """Return where the first operation after the sequence stands; None when there is none."""
    first, offset = 1, SEGMENT_HEADER_BYTES
    if snapshots:
        path = folder / snapshot_name(snapshots[-1])
        header = read_header(RealFileSystem().open_to_read(path), path)
        first, offset = header.segment, header.offset
    for number in range(first, last + 1):
        data = (folder / segment_name(number)).read_bytes()
        segment, following = _headers(folder, number, last)
        for frame, at in _frames(data, offset, segment, following):
            if frame.operations and frame.operations[-1].sequence > sequence:
                return _Cut(number, at, _part_of(frame, data[at : at + frame.size], sequence, segment.salt))
        offset = SEGMENT_HEADER_BYTES
    return None


def _headers(folder: Path, number: int, last: int) -> tuple[SegmentHeader, SegmentHeader | None]:
    """Return the header of a segment and of the one after it."""
    paths = [folder / segment_name(each) for each in (number, number + 1) if each <= last]
    system = RealFileSystem()
    headers = [SegmentHeader.decode(system.open_to_read(path).read_at(SEGMENT_HEADER_BYTES, 0), path) for path in paths]
    return headers[0], headers[1] if len(headers) > 1 else None


def _frames(
    data: bytes, offset: int, header: SegmentHeader, following: SegmentHeader | None
) -> Iterator[tuple[Frame, int]]:
    """Yield the frames from the offset on and where each starts, up to where a later process took over."""
    while (frame := decode_frame(data, offset, header.salt)) is not None:
        if following and following.takes_over(header, frame.previous_crc, frame.sequence - 1):
            return
        yield frame, offset
        offset += frame.size


def _part_of(frame: Frame, data: bytes, sequence: int, salt: bytes) -> bytes:
    """Return the frame with the operations up to the sequence alone; empty when there are none."""
    kept = [operation for operation in frame.operations if operation.sequence <= sequence]
    if not kept:
        return b""
    all_new = {operation.id for operation in frame.operations if isinstance(operation, Append)}
    new = {operation.id for operation in kept if isinstance(operation, Append)}
    gone = {operation.id for operation in kept if isinstance(operation, Evict | Remove)}
    records = [(id_, start) for id_, start in frame.records if id_ in new or id_ not in all_new]
    if new - gone - {id_ for id_, _ in records}:
        raise UnusableBackupError(
            f"what was appended up to sequence {sequence} and dropped in the same commit was never written; "
            f"choose {frame.sequence - 1} or {frame.operations[-1].sequence}"
        )
    bodies = [data[start : start + record_size(data, start)] for _, start in records]
    return encode_frame(frame.sequence, kept, bodies, salt, frame.previous_crc)[0]


def _apply(folder: Path, cut_at: _Cut, sequence: int, snapshots: list[int], segments: list[int]) -> None:
    system = RealFileSystem()
    file = system.open(folder / segment_name(cut_at.segment))
    file.truncate(cut_at.offset)
    file.write_at(cut_at.rest, cut_at.offset)
    file.sync()
    for number in segments:
        if number > cut_at.segment:
            system.remove(folder / segment_name(number))
    for snapshot in snapshots:
        if snapshot > sequence:
            system.remove(folder / snapshot_name(snapshot))
    system.sync_folder(folder)
