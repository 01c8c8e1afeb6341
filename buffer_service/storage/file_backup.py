"""A file store at one moment: the snapshots that are kept, and the log that either needs up to now.

Every file is opened before the moment is over, so what is removed later is still read. The caller is on the writer
thread; the files are read on any one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from buffer_service.errors import CorruptStoreError
from buffer_service.storage.base import BackupFile
from buffer_service.storage.fs import File, FileSystem
from buffer_service.storage.log import Log, segment_name, segment_numbers
from buffer_service.storage.snapshot import SnapshotHeader, snapshot_name

_PART_BYTES = 1 << 20


def files_of(system: FileSystem, folder: Path, log: Log, snapshots: list[SnapshotHeader]) -> Iterator[BackupFile]:
    """Return the files; ``snapshots`` are those kept, oldest first."""
    there = set(segment_numbers(system.names(folder)))
    current = log.current.header.number
    if not _segments_of(snapshots, current) <= there:
        snapshots = snapshots[-1:]
    names = [snapshot_name(header.sequence) for header in snapshots]
    names += [segment_name(number) for number in sorted(_segments_of(snapshots, current))]
    opened = [(name, system.open(folder / name)) for name in names]
    sized = [(name, file, log.current.size if name == names[-1] else file.size()) for name, file in opened]
    return (BackupFile(name, size, _parts(file, size, folder / name)) for name, file, size in sized)


def _segments_of(snapshots: list[SnapshotHeader], current: int) -> set[int]:
    first = snapshots[0].segment if snapshots else 1
    return set(range(first, current + 1)).union(*(header.needs() for header in snapshots))


def _parts(file: File, size: int, path: Path) -> Iterator[bytes]:
    for offset in range(0, size, _PART_BYTES):
        try:
            yield file.read_at(min(_PART_BYTES, size - offset), offset)
        except OSError as error:
            raise CorruptStoreError(f"{path}, offset {offset}: cannot be read: {error}") from error
