"""The segmented log: appending frames, reading single records, and which segments are there.

A place is where a record starts: segment number times 2**32 plus offset. ``append`` and everything that changes the
set of segments belongs to the writer thread; ``read`` and ``read_vectors`` may be called on any thread, and find a
segment that was dropped meanwhile missing, never closed under them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from buffer_service.errors import CorruptStoreError, StorageFullError, SupersededError
from buffer_service.storage.base import Shape
from buffer_service.storage.fs import FULL_ERRNOS, File, FileSystem, write_new
from buffer_service.storage.log_format import (
    RECORD_HEADER_BYTES,
    SALT_BYTES,
    SEGMENT_HEADER_BYTES,
    Record,
    SegmentHeader,
    decode_record,
    encode_frame,
    read_payload,
    read_vector,
    record_size,
)
from buffer_service.storage.operations import Operation
from buffer_service.storage.spare import Spare

Places = npt.NDArray[np.int64]

FULL_MESSAGE = "The disk is full; free space on the volume of the store"

_NAME = re.compile(r"segment-(\d{10})\.log")
_OFFSET_BITS = 32
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_PAYLOAD_BYTES_GUESSED = 2048
_LIKELY_BYTES_MAX = 64 << 10
"""What does not fit into that costs a second read, and no small record costs the reading of large ones."""
_READ_BYTES = 4 << 20
_SPARE_FROM = 16
"""A spare is made once a segment holds one part in so many: a log that is hardly written to needs none."""
_GAP_BYTES = 8 << 10
"""To read so much that is not wanted takes about as long as one more call."""


def segment_name(number: int) -> str:
    """Return the file name of a segment."""
    return f"segment-{number:010d}.log"


def segment_numbers(names: Sequence[str]) -> list[int]:
    """Return the numbers of the segments among file names, ascending."""
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)


def place_of(number: int, offset: int) -> int:
    """Return the place of a record."""
    return number << _OFFSET_BITS | offset


def segment_of(place: int) -> int:
    """Return the segment of a place."""
    return place >> _OFFSET_BITS


def offset_of(place: int) -> int:
    """Return the offset of a place in its segment."""
    return place & _OFFSET_MASK


@dataclass(slots=True)
class Segment:
    """An open segment and what is known of its content."""

    header: SegmentHeader
    path: Path
    file: File
    size: int
    """End of the last whole frame."""
    ahead_bytes: int = 0
    """How far its space was written ahead; 0 where it grows as it is written."""
    record_count: int = 0
    record_bytes: int = 0
    live_count: int = 0
    """Records in it that are live; kept for all but what the next commit changes."""

    @property
    def live_bytes(self) -> int:
        """Estimate from the mean size of its records."""
        return self.live_count * self.record_bytes // self.record_count if self.record_count else 0


class Log:
    """The segments of one store; ``crc`` is that of the last frame, which the next one is chained to.

    A process writes only to segments that it began itself: what one that was superseded still writes ends up behind
    the end of a segment that another one has continued elsewhere, where recovery passes it over.
    """

    def __init__(self, system: FileSystem, folder: Path, shape: Shape, segment_bytes: int, epoch: int) -> None:
        self._system = system
        self._folder = folder
        self._shape = shape
        self._segment_bytes = segment_bytes
        self._record_bytes_guessed = RECORD_HEADER_BYTES + 4 * shape.dimension + _PAYLOAD_BYTES_GUESSED
        self.epoch = epoch
        self.segments: dict[int, Segment] = {}
        self.current: Segment
        self.spare: Spare | None = None
        """The next segment in the making; only a log that is written to has one."""
        self.crc = 0
        self._coming: Segment | None = None
        """The next segment, when a full disk kept its name from becoming durable."""
        self.appended_bytes = 0
        """Bytes of the frames appended since the store was opened."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments, and of the next one where it is there."""
        held_bytes = 0 if self.spare is None else self.spare.held_bytes
        return held_bytes + sum(max(segment.size, segment.ahead_bytes) for segment in list(self.segments.values()))

    def append(self, sequence: int, operations: list[Operation], records: list[bytes]) -> list[int]:
        """Write one frame and make it durable; returns the places of the records.

        Raises StorageFullError after taking back what was written. Any other error is an OSError, after which
        durability is unknown.
        """
        if self._is_over(self.current):
            self.start_segment(sequence)
        segment = self.current
        frame, crc, starts = encode_frame(sequence, operations, records, segment.header.salt, self.crc)
        try:
            segment.file.write_at(frame, segment.size)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            segment.file.truncate(segment.size)
            segment.ahead_bytes = 0
            raise StorageFullError(FULL_MESSAGE) from error
        segment.file.sync()
        base = place_of(segment.header.number, segment.size)
        segment.size += len(frame)
        segment.record_count += len(records)
        segment.record_bytes += sum(map(len, records))
        self.crc = crc
        self.appended_bytes += len(frame)
        if self.spare is not None and segment.size >= self._segment_bytes // _SPARE_FROM:
            self.spare.prepare()
        return [base + start for start in starts]

    def start_segment(self, sequence: int) -> None:
        """Begin the next segment, whose first operation is ``sequence``; raises as ``append`` does."""
        number = self.current.header.number + 1 if self.segments else 1
        path = self._folder / segment_name(number)
        try:
            if self._coming is None:
                header = SegmentHeader(number, sequence, self.epoch, os.urandom(SALT_BYTES), self.crc, self._shape)
                ahead_bytes = self._create(path, header.encode())
                self._coming = Segment(header, path, self._system.open(path), SEGMENT_HEADER_BYTES, ahead_bytes)
            self._system.sync_folder(self._folder)
        except FileExistsError as error:
            raise SupersededError(
                f"{path}: another process has taken over this store and begun this segment; stop this process"
            ) from error
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            raise StorageFullError(FULL_MESSAGE) from error
        self.adopt(self._coming)
        self._coming = None

    def _is_over(self, segment: Segment) -> bool:
        """Tell whether the next segment is due: also when its space is there and this one's was not.

        One that has its name already is the next, for it says where it goes on.
        """
        is_full = segment.size >= self._segment_bytes or segment.header.epoch != self.epoch
        is_ahead = self.spare is not None and self.spare.is_ready and not segment.ahead_bytes
        return is_full or is_ahead or self._coming is not None

    def _create(self, path: Path, content: bytes) -> int:
        """Make the file of a segment; returns how far its space was written ahead."""
        if self.spare is not None and self.spare.become(path, content):
            return self.spare.size_bytes
        write_new(self._system, path, [content], self.epoch)
        return 0

    def adopt(self, segment: Segment) -> None:
        """Take in the next segment; the last one taken in is written to."""
        self.segments[segment.header.number] = segment
        self.current = segment

    def trim(self) -> None:
        """Give back the space that was written ahead and not used. At the end, where no commit has failed."""
        if self.current.ahead_bytes:
            self.current.file.truncate(self.current.size)
            self.current.ahead_bytes = 0

    def read(self, place: int) -> tuple[bytes, Record] | None:
        """Return the record at a place, as bytes and parsed; None when its segment is not there any more.

        Raises CorruptStoreError when a checksum does not hold.
        """
        segment = self.segments.get(segment_of(place))
        if segment is None:
            return None
        data = self._record_at(segment, offset_of(place))
        record = decode_record(data)
        if record is None:
            raise _damaged(segment, offset_of(place))
        return data[: record_size(data)], record

    def read_payloads(self, places: Places) -> list[tuple[int, bytes]]:
        """Return id and payload of the record at each place, several times quicker than ``read``; raises as that does.

        A record whose segment is not there any more has id 0, one whose header is damaged may have another id.
        """
        guess = self._likely_record_bytes()
        found: list[tuple[int, bytes]] = []
        segments, offsets = places >> _OFFSET_BITS, places & _OFFSET_MASK
        for number, offset in zip(segments.tolist(), offsets.tolist(), strict=True):
            segment = self.segments.get(number)
            if segment is None:
                found.append((0, b""))
            else:
                found.append(read_payload(_read_at(segment, guess, offset)) or self._longer(segment, offset))
        return found

    def pinned(self) -> Log:
        """Return the log as it is now, for reading: its segments stay, whatever becomes of their names."""
        pinned = Log(self._system, self._folder, self._shape, self._segment_bytes, self.epoch)
        pinned.segments = dict(self.segments)
        return pinned

    def read_vectors(self, places: list[int]) -> Iterator[tuple[int, bytes]]:
        """Yield id and vector of the records at ascending places, in few reads; raises as ``read`` does.

        A record whose segment is not there any more yields id 0.
        """
        vector_bytes = 4 * self._shape.dimension
        for run in _runs(places, RECORD_HEADER_BYTES + vector_bytes):
            segment = self.segments.get(segment_of(run[0]))
            if segment is None:
                yield from ((0, b"") for _ in run)
                continue
            start = offset_of(run[0])
            data = _read_at(segment, run[-1] - run[0] + RECORD_HEADER_BYTES + vector_bytes, start)
            for place in run:
                found = read_vector(data, place - run[0], vector_bytes)
                if found is None:
                    raise _damaged(segment, offset_of(place))
                yield found

    def _longer(self, segment: Segment, offset: int) -> tuple[int, bytes]:
        found = read_payload(self._record_at(segment, offset))
        if found is None:
            raise _damaged(segment, offset)
        return found

    def _likely_record_bytes(self) -> int:
        """Return what most records fit into: half as much again as the mean of those written last, within a bound."""
        current = self.current
        mean = current.record_bytes // current.record_count if current.record_count else self._record_bytes_guessed
        return min(mean + mean // 2, _LIKELY_BYTES_MAX)

    def _record_at(self, segment: Segment, offset: int) -> bytes:
        """Return what stands at an offset, a whole record at least; raises CorruptStoreError where there is none."""
        data = _read_at(segment, self._record_bytes_guessed, offset)
        if len(data) < RECORD_HEADER_BYTES:
            raise _damaged(segment, offset)
        size = record_size(data)
        return _read_at(segment, size, offset) if len(data) < size <= segment.size - offset else data


def _runs(places: list[int], size: int) -> Iterator[list[int]]:
    """Split ascending places into runs that lie close together in one segment."""
    run: list[int] = []
    for place in places:
        if run and (place - run[-1] > size + _GAP_BYTES or place - run[0] > _READ_BYTES):
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def _damaged(segment: Segment, offset: int) -> CorruptStoreError:
    return CorruptStoreError(f"{segment.path}, offset {offset}: the checksum of a record does not hold")


def _read_at(segment: Segment, size: int, offset: int) -> bytes:
    try:
        return segment.file.read_at(size, offset)
    except OSError as error:
        raise CorruptStoreError(f"{segment.path}, offset {offset}: cannot be read: {error}") from error
