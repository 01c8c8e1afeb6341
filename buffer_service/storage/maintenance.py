"""Snapshots of the file store, and cutting the log behind them.

The state is copied on the writer thread and written by a background thread, which also removes files. The newest two
snapshots are kept, with all of the log that either needs, so that a damaged one costs nothing. Called on the writer
thread only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from buffer_service.storage.base import Shape
from buffer_service.storage.fs import FULL_ERRNOS, FileSystem
from buffer_service.storage.log import Log, segment_name
from buffer_service.storage.log_recovery import Recovered
from buffer_service.storage.snapshot import (
    SegmentFacts,
    Snapshot,
    SnapshotHeader,
    new_header,
    snapshot_name,
    write_snapshot,
)
from buffer_service.storage.table import Table

_SNAPSHOTS_KEPT = 2
_LOG_BYTES_PER_SNAPSHOT_BYTE = 4
_ROWS_PER_CHANGE = 4

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much log there may be; the defaults bound replay to about a second."""

    segment_bytes: int = 32 << 20
    snapshot_log_bytes: int = 64 << 20
    """A snapshot is due after so many bytes of log, or four times the size of the last snapshot."""
    snapshot_changes: int = 50_000
    """It is also due after so many changed rows, or a quarter of all rows."""
    snapshot_segments: int = 32
    """And after so many segments, which a process that is started again and again makes without filling them."""


class Maintenance:
    """Decides when a snapshot is due, and what can go once it is there."""

    def __init__(
        self, system: FileSystem, folder: Path, shape: Shape, log: Log, background: Executor, limits: Limits
    ) -> None:
        self._system = system
        self._folder = folder
        self._shape = shape
        self._log = log
        self._background = background
        self._limits = limits
        self._snapshots: list[SnapshotHeader] = []
        self._leftovers: list[str] = []
        self._snapshot_bytes = 0
        self._job: Future[int] | None = None
        self._then: Callable[[int], None] = lambda _: None
        self._changes = 0
        self._log_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Estimate of the bytes of the snapshots kept."""
        return self._snapshot_bytes * len(self._snapshots)

    @property
    def snapshots(self) -> list[SnapshotHeader]:
        """The snapshots kept, oldest first."""
        return list(self._snapshots)

    def resume(self, found: Recovered) -> None:
        """Go on from what recovery found."""
        self._snapshots = found.snapshots
        self._leftovers = found.leftovers
        self.note(found.replayed_changes, found.replayed_bytes)

    def note(self, changes: int, log_bytes: int) -> None:
        """Count what was committed since the last snapshot."""
        self._changes += changes
        self._log_bytes += log_bytes

    def tend(self, table: Table) -> None:
        """Take in what the background has finished and start what is due; ``table`` is as the last commit left it.

        Raises OSError or CorruptStoreError when the background met a fault of the disk, other than its being full.
        """
        if self._job is not None and self._job.done():
            self._collect(self._job)
        if self._job is None and self._is_due(len(table)):
            self._start(table)

    def _collect(self, job: Future[int]) -> None:
        self._job = None
        try:
            result = job.result()
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            _logger.warning("a snapshot could not be written, the log is kept: %s", error)
        else:
            self._then(result)

    def _is_due(self, rows: int) -> bool:
        limits = self._limits
        first = self._snapshots[-1].segment if self._snapshots else 1
        if self._log.current.header.number - first >= limits.snapshot_segments:
            return True
        return self._changes >= max(limits.snapshot_changes, rows // _ROWS_PER_CHANGE) or self._log_bytes >= max(
            limits.snapshot_log_bytes, _LOG_BYTES_PER_SNAPSHOT_BYTE * self._snapshot_bytes
        )

    def _start(self, table: Table) -> None:
        image = table.image()
        current = self._log.current
        position = (current.header.number, current.size, self._log.crc)
        facts = [
            SegmentFacts(number, segment.size, segment.record_count, segment.record_bytes)
            for number, segment in self._log.segments.items()
            if segment.live_count or segment is current
        ]
        snapshot = Snapshot(new_header(self._shape, image, position, facts), image)
        self._changes = self._log_bytes = 0
        self._then = lambda size: self._written(snapshot.header, size)
        self._job = self._background.submit(write_snapshot, self._system, self._folder, snapshot, self._log.epoch)

    def _written(self, header: SnapshotHeader, size: int) -> None:
        self._snapshots.append(header)
        self._snapshot_bytes = size
        if len(self._snapshots) <= _SNAPSHOTS_KEPT:
            return
        names = [snapshot_name(old.sequence) for old in self._snapshots[:-_SNAPSHOTS_KEPT]] + self._leftovers
        self._leftovers = []
        self._snapshots = self._snapshots[-_SNAPSHOTS_KEPT:]
        for number in self._unneeded_segments():
            del self._log.segments[number]
            names.append(segment_name(number))
        self._then = lambda _: None
        self._job = self._background.submit(self._remove, names)

    def _unneeded_segments(self) -> list[int]:
        """Return the segments that no snapshot needs; what is live stands in one that the newest needs, or after it."""
        needed = set().union(*(snapshot.needs() for snapshot in self._snapshots))
        first = self._snapshots[0].segment
        return [number for number in self._log.segments if number < first and number not in needed]

    def _remove(self, names: list[str]) -> int:
        for name in names:
            self._system.remove(self._folder / name)
        self._system.sync_folder(self._folder)
        return 0
