"""Opening a file store: the newest valid snapshot, then the log after it through the same fold as ever.

What may be repaired without losing anything that was acknowledged is repaired: an unfinished last frame is cut off
and set aside, a bad snapshot is set aside where the one before it and the log since then are whole. Everything else
refuses to start, naming file and offset. Runs once, on the thread that opens the store, which holds the writer lock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from buffer_service.errors import CorruptStoreError
from buffer_service.storage.base import Shape, require_shape
from buffer_service.storage.fs import FULL_ERRNOS, TEMPORARY_SUFFIX, FileSystem, write_durably
from buffer_service.storage.group import Group
from buffer_service.storage.log import Log, Segment, place_of, segment_name, segment_numbers
from buffer_service.storage.log_format import FRAME_MAGIC, SEGMENT_HEADER_BYTES, Frame, SegmentHeader, decode_frame
from buffer_service.storage.snapshot import (
    Snapshot,
    SnapshotHeader,
    read_header,
    read_snapshot,
    snapshot_name,
    snapshot_sequences,
)
from buffer_service.storage.table import Table

TORN_SUFFIX = ".torn"
"""Ends the names of files that keep what was cut off the end of a segment."""
_PAGE_BYTES = 4096
"""To such a multiple what was torn is kept; behind it is space that was written ahead."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """What was found."""

    table: Table
    log: Log
    snapshots: list[SnapshotHeader]
    """The snapshots that recovery could start from next time, oldest first; at most two."""
    leftovers: list[str] = field(default_factory=list)
    """Names of files that the newest snapshot does not need."""
    replayed_bytes: int = 0
    replayed_changes: int = 0
    replayed_operations: int = 0
    torn_bytes: int = 0


def recover(system: FileSystem, folder: Path, shape: Shape, segment_bytes: int, epoch: int = 0) -> Recovered:
    """Open or create the store for the process with this epoch. Raises CorruptStoreError or IncompatibleStoreError."""
    return _Recovery(system, folder, shape, segment_bytes, epoch).run()


class _Recovery:
    def __init__(self, system: FileSystem, folder: Path, shape: Shape, segment_bytes: int, epoch: int) -> None:
        self._system = system
        self._folder = folder
        self._shape = shape
        self._found = Recovered(Table(), Log(system, folder, shape, segment_bytes, epoch), [])
        self._bad_snapshots: list[Path] = []

    def run(self) -> Recovered:
        with _disk(self._folder):
            self._system.sync_folder(self._folder)
            names = self._system.names(self._folder)
            for name in names:
                if name.endswith(TEMPORARY_SUFFIX):
                    self._system.remove(self._folder / name)
            snapshot = self._newest_snapshot(snapshot_sequences(names))
            numbers = segment_numbers(names)
            if not numbers and snapshot is None and not self._bad_snapshots:
                self._found.log.start_segment(1)
                return self._found
            self._require_segments(snapshot, numbers)
            self._replay(snapshot, numbers)
            # The epoch file may have been lost with a backup that does not carry it.
            self._found.log.epoch = max(self._found.log.epoch, self._found.log.current.header.epoch + 1)
            self._count_live()
            self._clean_up(snapshot, names)
        return self._found

    def _newest_snapshot(self, sequences: list[int]) -> Snapshot | None:
        for sequence in reversed(sequences):
            path = self._folder / snapshot_name(sequence)
            with _disk(path):
                file = self._system.open(path)
                try:
                    return read_snapshot(file, path)
                except CorruptStoreError as error:
                    _logger.warning("%s; going back to the snapshot before it", error)
                    self._bad_snapshots.append(path)
        return None

    def _require_segments(self, snapshot: Snapshot | None, numbers: list[int]) -> None:
        first = 1 if snapshot is None else snapshot.header.segment
        needed = set(range(first, max(numbers, default=first) + 1))
        if snapshot is not None:
            needed |= snapshot.header.needs()
        missing = needed - set(numbers)
        if missing:
            because = "".join(f"; {path.name} is damaged too" for path in self._bad_snapshots)
            raise CorruptStoreError(
                f"{self._folder / segment_name(min(missing))} is missing{because}; restore a backup"
            )

    def _replay(self, snapshot: Snapshot | None, numbers: list[int]) -> None:
        found = self._found
        first, offset = 1, SEGMENT_HEADER_BYTES
        if snapshot is not None:
            first, offset = snapshot.header.segment, snapshot.header.offset
            found.table = Table.restored(snapshot.image)
            found.log.crc = snapshot.header.crc
            for facts in sorted(snapshot.header.segments, key=lambda facts: facts.number):
                segment = self._open(facts.number, facts.size)
                segment.record_count, segment.record_bytes = facts.record_count, facts.record_bytes
        if first not in found.log.segments:
            self._require_chained(self._open(first, SEGMENT_HEADER_BYTES))
        for number in range(first, numbers[-1] + 1):
            segment = found.log.segments[number]
            if number == numbers[-1]:
                self._replay_last(segment, offset)
            else:
                following = self._open(number + 1, SEGMENT_HEADER_BYTES)
                self._replay_closed(segment, offset, following.header)
                self._require_chained(following)
            offset = SEGMENT_HEADER_BYTES

    def _open(self, number: int, size: int) -> Segment:
        path = self._folder / segment_name(number)
        with _disk(path):
            file = self._system.open(path)
            header = SegmentHeader.decode(file.read_at(SEGMENT_HEADER_BYTES, 0), path)
            found_size = file.size()
        if header.number != number:
            raise CorruptStoreError(f"{path}, offset 0: this is segment {header.number}; restore a backup")
        require_shape(path, header.shape, self._shape)
        if found_size < size:
            raise CorruptStoreError(f"{path}, offset {found_size}: the file ends before {size}; restore a backup")
        segment = Segment(header, path, file, size)
        self._found.log.adopt(segment)
        return segment

    def _require_chained(self, segment: Segment) -> None:
        sequence = self._found.table.header.sequence + 1
        if segment.header.previous_crc != self._found.log.crc or segment.header.first_sequence != sequence:
            raise CorruptStoreError(
                f"{segment.path}, offset 0: does not continue the segment before it; restore a backup"
            )

    def _replay_last(self, segment: Segment, offset: int) -> None:
        with _disk(segment.path):
            # The last commit may have ended in a failed sync: then the cache holds what the disk does not.
            segment.file.sync()
            segment.file.forget_cache()
        rest = self._replay_frames(segment, offset, None)
        if rest:
            self._cut_off(segment, rest)

    def _replay_closed(self, segment: Segment, offset: int, following: SegmentHeader) -> None:
        rest = self._replay_frames(segment, offset, following)
        if rest and not self._taken_over(segment, following):
            raise CorruptStoreError(
                f"{segment.path}, offset {segment.size}: a damaged frame, with another segment after it; "
                "restore a backup"
            )
        if rest:
            _logger.warning(
                "%s, offset %d: %d bytes of a process that had been superseded are passed over; none were acknowledged",
                segment.path,
                segment.size,
                len(rest),
            )

    def _taken_over(self, segment: Segment, following: SegmentHeader | None) -> bool:
        found = self._found
        return following is not None and following.takes_over(
            segment.header, found.log.crc, found.table.header.sequence
        )

    def _replay_frames(self, segment: Segment, offset: int, following: SegmentHeader | None) -> bytes:
        """Fold the frames up to where the next segment continues, and return what stands behind them."""
        with _disk(segment.path):
            data = segment.file.read_at(max(0, segment.file.size() - offset), offset)
        at = 0
        while not self._taken_over(segment, following):
            frame = decode_frame(data, at, segment.header.salt)
            if frame is None:
                break
            self._replay_frame(segment, frame, offset + at)
            at += frame.size
        segment.size = offset + at
        self._found.replayed_bytes += at
        return data[at:]

    def _replay_frame(self, segment: Segment, frame: Frame, offset: int) -> None:
        found = self._found
        expected = found.table.header.sequence + 1
        if frame.previous_crc != found.log.crc or frame.sequence != expected:
            raise CorruptStoreError(f"{segment.path}, offset {offset}: does not continue the frame before it")
        group = Group.on(found.table)
        try:
            for operation in frame.operations:
                group.apply(operation)
        except ValueError as error:
            raise CorruptStoreError(f"{segment.path}, offset {offset}: {error}") from error
        for experience, start in frame.records:
            group.move(experience, place_of(segment.header.number, offset + start))
        found.replayed_operations += len(frame.operations)
        found.replayed_changes += group.change_count
        group.publish()
        segment.record_count += len(frame.records)
        segment.record_bytes += frame.record_bytes
        found.log.crc = frame.crc

    def _cut_off(self, segment: Segment, rest: bytes) -> None:
        """Cut off what follows the last whole frame: space, or what can only be a commit that was never finished."""
        unused = rest == bytes(len(rest))
        later = None if unused else _frame_in(rest, segment.header.salt)
        if later is not None:
            raise CorruptStoreError(
                f"{segment.path}, offset {segment.size}: a damaged frame, with a whole frame at offset "
                f"{segment.size + later} after it; restore a backup"
            )
        if not unused:
            torn = rest[: -(-len(rest.rstrip(b"\0")) // _PAGE_BYTES) * _PAGE_BYTES]
            self._found.torn_bytes = len(torn)
            _logger.warning(
                "%s, offset %d: an unfinished commit of %d bytes is cut off", segment.path, segment.size, len(torn)
            )
            self._set_aside(segment, torn)
        with _disk(segment.path):
            segment.file.truncate(segment.size)
            segment.file.sync()

    def _set_aside(self, segment: Segment, rest: bytes) -> None:
        aside = segment.path.with_name(f"{segment.path.name}.{segment.size}{TORN_SUFFIX}")
        try:
            write_durably(self._system, aside, [rest])
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            _logger.warning("%s cannot be kept: %s", aside, error)

    def _count_live(self) -> None:
        table, segments = self._found.table, self._found.log.segments
        numbers, counts = np.unique(table.place[table.ids > 0] >> 32, return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            segments[number].live_count = count

    def _clean_up(self, snapshot: Snapshot | None, names: list[str]) -> None:
        """Set bad snapshots aside, find the one before, which stays while its log is there, and what may go."""
        for path in self._bad_snapshots:
            self._system.rename(path, path.with_name(path.name + ".bad"))
        if snapshot is None:
            return
        self._found.snapshots = [snapshot.header]
        older = [sequence for sequence in snapshot_sequences(names) if sequence < snapshot.header.sequence]
        if older:
            before = self._header_before(older[-1], set(segment_numbers(names)))
            if before is not None:
                self._found.snapshots.insert(0, before)
        needed = {segment_name(number) for number in self._found.log.segments}
        kept = {snapshot_name(header.sequence) for header in self._found.snapshots}
        self._found.leftovers = [
            *(name for name in map(segment_name, segment_numbers(names)) if name not in needed),
            *(name for name in map(snapshot_name, older) if name not in kept),
            *(name for name in names if name.endswith(TORN_SUFFIX) and name.split(".log")[0] + ".log" not in needed),
        ]

    def _header_before(self, sequence: int, numbers: set[int]) -> SnapshotHeader | None:
        path = self._folder / snapshot_name(sequence)
        with _disk(path):
            file = self._system.open(path)
            try:
                header = read_header(file, path)
            except CorruptStoreError as error:
                _logger.warning("%s", error)
                return None
        return header if header.needs() <= numbers else None


def _frame_in(rest: bytes, salt: bytes) -> int | None:
    """Return where a whole frame stands in what follows the last readable one, if there is one."""
    at = rest.find(FRAME_MAGIC)
    while at >= 0:
        if decode_frame(rest, at, salt) is not None:
            return at
        at = rest.find(FRAME_MAGIC, at + 1)
    return None


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Refuse to start on an I/O error: skipping what cannot be read would lose what was acknowledged."""
    try:
        yield
    except OSError as error:
        raise CorruptStoreError(f"{path}: {error}") from error
