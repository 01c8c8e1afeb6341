"""The ``file`` adapter: one segmented log, snapshots beside it.

Commits and maintenance run on the writer thread, snapshots are written and files removed by one background thread,
reads may come from any thread. After a fault of the disk other than its being full, nothing is written any more until
the store is opened again; reads go on.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from buffer_service.errors import (
    CorruptStoreError,
    IncompatibleStoreError,
    OutcomeUnknownError,
    StorageFullError,
    SupersededError,
)
from buffer_service.storage import file_backup, moments
from buffer_service.storage.ballast import Ballast
from buffer_service.storage.base import BackupSource, Moment, RecoveryReport, Shape
from buffer_service.storage.compaction import Compaction, Copy
from buffer_service.storage.epoch import Epoch
from buffer_service.storage.fs import FileSystem, RealFileSystem
from buffer_service.storage.group import Group
from buffer_service.storage.lmdb_check import DATA_FILE
from buffer_service.storage.lock import WriterLock
from buffer_service.storage.log import segment_of
from buffer_service.storage.log_format import encode_record
from buffer_service.storage.log_recovery import recover
from buffer_service.storage.maintenance import Limits, Maintenance
from buffer_service.storage.spare import Spare
from buffer_service.storage.table import Table

_READ_ATTEMPTS = 100
_NOWHERE = 0
"""No place: segments are numbered from 1."""

_logger = logging.getLogger(__name__)


class FileStore:
    """A durable store in a folder of files; see ``base.Store``."""

    def __init__(
        self,
        system: FileSystem,
        folder: Path,
        shape: Shape,
        background: Executor,
        limits: Limits,
        release: Callable[[], None],
    ) -> None:
        started = time.monotonic()
        self._epoch = Epoch(system, folder)
        found = recover(system, folder, shape, limits.segment_bytes, self._epoch.number)
        if found.log.epoch != self._epoch.number:
            self._epoch.claim(found.log.epoch)
        self._system = system
        self._folder = folder
        self._shape = shape
        self._release = release
        self._background = background
        self._latched: str | None = None
        self._table = found.table
        self._log = found.log
        self._spare = Spare(system, folder, limits.segment_bytes, found.log.epoch, background)
        self._log.spare = self._spare
        self._compaction = Compaction(found.log, limits.segment_bytes)
        self._maintenance = Maintenance(system, folder, shape, found.log, background, limits)
        self._maintenance.resume(found)
        self._ballast = Ballast(system, folder)
        self._report = RecoveryReport(found.replayed_operations, found.torn_bytes, time.monotonic() - started)

    @classmethod
    def open(cls, folder: Path, shape: Shape) -> FileStore:
        """Open or create the store; raises StoreLockedError, IncompatibleStoreError or CorruptStoreError."""
        system = RealFileSystem()
        system.make_folder(folder)
        if (folder / DATA_FILE).exists():
            raise IncompatibleStoreError(f"{folder} holds a store of the lmdb backend; set persistence.backend=lmdb")
        lock = WriterLock.acquire(folder)
        background = ThreadPoolExecutor(1, thread_name_prefix="store-background")
        try:
            return cls(system, folder, shape, background, Limits(), lock.release)
        except BaseException:
            lock.release()
            raise

    @property
    def table(self) -> Table:
        """See Store."""
        return self._table

    @property
    def report(self) -> RecoveryReport:
        """See Store."""
        return self._report

    def commit(self, group: Group) -> None:
        """See Store."""
        if self._latched is not None:
            raise OutcomeUnknownError(self._latched)
        try:
            self._epoch.check()
            if not group.operations:
                return
            self._maintenance.tend(self._table)
            self._commit_or_make_room(group)
            # Taken over in between: whoever did may have read the log before this group was in it.
            self._epoch.check()
        except StorageFullError:
            raise
        except SupersededError as error:
            self._latched = str(error)
            raise OutcomeUnknownError(self._latched) from error
        except BaseException as error:
            self._latched = (
                f"The last write may or may not be durable ({error}); restart the service to take writes again"
            )
            _logger.exception("writes stop until the store is opened again")
            raise OutcomeUnknownError(self._latched) from error

    def payloads(self, ids: Sequence[int]) -> list[bytes | None]:
        """See Store."""
        slots = self._table.slots_of(np.array(ids, np.int64))
        places = np.where(slots < 0, _NOWHERE, self._table.place[slots])
        # Another id: it was moved or dropped since the look-up, or was not there then.
        return [
            payload if read and read == experience else self._find(experience, self._read_payload)
            for experience, (read, payload) in zip(ids, self._log.read_payloads(places), strict=True)
        ]

    def vectors(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """See Store."""
        wanted = ids.tolist()
        slots = self._table.slots_of(ids)
        positions = np.flatnonzero(slots >= 0)
        places = self._table.place[slots[positions]]
        order = np.argsort(places)
        vectors = np.empty((len(ids), self._shape.dimension), np.float32)
        found = np.zeros(len(ids), bool)
        read = self._log.read_vectors(places[order].tolist())
        for position, (experience, vector) in zip(positions[order].tolist(), read, strict=True):
            current: bytes | None = vector
            if experience != wanted[position]:  # it was moved or dropped since the look-up
                current = self._find(wanted[position], self._read_vector)
            if current is not None:
                vectors[position] = np.frombuffer(current, "<f4")
                found[position] = True
        return (ids, vectors) if found.all() else (ids[found], vectors[found])

    def live_bytes(self) -> int:
        """See Store."""
        return sum(segment.live_bytes for segment in self._log.segments.values())

    def size_bytes(self) -> int:
        """See Store."""
        return self._log.size_bytes + self._maintenance.size_bytes

    def backup(self) -> BackupSource:
        """See Store. Segments that are removed meanwhile take up disk space until they have been copied."""
        files = file_backup.files_of(self._system, self._folder, self._log, self._maintenance.snapshots)
        return BackupSource("file", self._shape, self._table.header.sequence, len(self._table), files)

    def moment(self) -> Moment:
        """See Store. Segments that are removed meanwhile take up disk space until it is given up."""
        return moments.of_log(self._table, self._log.pinned(), self._shape)

    def close(self) -> None:
        """See Store."""
        self._spare.give_up()
        self._background.shutdown()
        self._spare.give_up()  # where its last part was being written
        if self._latched is None:
            with contextlib.suppress(OSError):  # the next start does it
                self._log.trim()
        self._release()

    def _commit_or_make_room(self, group: Group) -> None:
        records = [
            encode_record(experience, append.vector, append.payload) for experience, append in group.appended.items()
        ]
        try:
            copies = self._compaction.next_copies(self._table, group, sum(map(len, records)))
            self._commit(group, records, copies)
        except StorageFullError:
            if not self._commit_instead_of_spare(group, records):
                if group.appended or not self._ballast.release():
                    raise
                self._commit(group, records, [])
        self._ballast.restore()

    def _commit_instead_of_spare(self, group: Group, records: list[bytes]) -> bool:
        """Commit in the space of the next segment, on a disk that is full; False where there is none, or too little."""
        if not self._spare.give_up():
            return False
        try:
            self._commit(group, records, [])
        except StorageFullError:
            return False
        return True

    def _commit(self, group: Group, records: list[bytes], copies: list[Copy]) -> None:
        before = self._log.appended_bytes
        places = self._log.append(
            group.operations[0].sequence, group.operations, [*records, *(copy.data for copy in copies)]
        )
        self._maintenance.note(group.change_count, self._log.appended_bytes - before)
        for experience, place in zip([*group.appended, *(copy.id for copy in copies)], places, strict=True):
            group.move(experience, place)
        self._count_live(group, copies, places)

    def _count_live(self, group: Group, copies: list[Copy], places: list[int]) -> None:
        """Follow in the segments which of their records are live."""
        segments = self._log.segments
        if places:
            segments[segment_of(places[0])].live_count += len(places)
        for copy in copies:
            segments[segment_of(copy.place)].live_count -= 1
        for experience in group.dropped:
            segments[segment_of(int(self._table.place[self._table.slots[experience]]))].live_count -= 1

    def _find(self, experience: int, read: Callable[[int], tuple[int, bytes]]) -> bytes | None:
        """Read a part of the record of a live experience, wherever it is moved; ``read`` says whose it is."""
        table = self._table
        for _ in range(_READ_ATTEMPTS):
            slot = table.slots.get(experience)
            if slot is None:
                return None
            found, part = read(int(table.place[slot]))
            if found == experience:
                return part
        raise CorruptStoreError(f"experience {experience} is not where the table says")

    def _read_payload(self, place: int) -> tuple[int, bytes]:
        found = self._log.read(place)
        return (0, b"") if found is None else (found[1].id, found[1].payload)

    def _read_vector(self, place: int) -> tuple[int, bytes]:
        return next(self._log.read_vectors([place]))
