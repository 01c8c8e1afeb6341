"""Repairing a store: only what loses nothing that was acknowledged, and nothing at all where that is not enough.

Damaged snapshots are set aside where the log makes up for them; an unfinished commit is cut off the log and kept aside.
An lmdb store has nothing that could be repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buffer_service.errors import CorruptStoreError, InvalidRequestError
from buffer_service.storage.fs import TEMPORARY_SUFFIX, RealFileSystem
from buffer_service.storage.lmdb_check import DATA_FILE
from buffer_service.storage.lock import WriterLock
from buffer_service.storage.log import segment_name, segment_numbers
from buffer_service.storage.log_format import SEGMENT_HEADER_BYTES, SegmentHeader
from buffer_service.storage.log_recovery import TORN_SUFFIX, recover
from buffer_service.storage.maintenance import Limits
from buffer_service.storage.verify import damaged_snapshots, problems_beside_snapshots

_BAD_SUFFIX = ".bad"


@contextmanager
def repaired_store(folder: Path) -> Iterator[list[str]]:
    """Repair the store and yield a sentence for each thing that was done, while the writer lock is held.

    Raises InvalidRequestError where there is no store, StoreLockedError while it is open, and CorruptStoreError,
    nothing having been changed, where what was acknowledged would be lost.
    """
    is_lmdb = (folder / DATA_FILE).exists()
    if not is_lmdb and not (folder.is_dir() and segment_numbers([path.name for path in folder.iterdir()])):
        raise InvalidRequestError(f"{folder} holds no store; give the folder of a buffer, or of its store")
    lock = WriterLock.acquire(folder)
    try:
        problems = list(problems_beside_snapshots(folder))
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise CorruptStoreError(
                f"{problems[0]}{more}: a repair would lose what was acknowledged, so nothing was changed; restore the "
                "newest backup into another folder, and keep this one"
            )
        yield [] if is_lmdb else _repair_files(folder)
    finally:
        lock.release()


def _repair_files(folder: Path) -> list[str]:
    system = RealFileSystem()
    before = system.names(folder)
    done = [f"{folder / name}: removed, it was never finished" for name in before if name.endswith(TEMPORARY_SUFFIX)]
    for path, problem in damaged_snapshots(folder).items():
        system.rename(path, path.with_name(path.name + _BAD_SUFFIX))
        done.append(f"{problem}; set aside as {path.name}{_BAD_SUFFIX}, the rest holds all that was in it")
    path = folder / segment_name(segment_numbers(before)[-1])
    shape = SegmentHeader.decode(system.open(path).read_at(SEGMENT_HEADER_BYTES, 0), path).shape
    found = recover(system, folder, shape, Limits().segment_bytes)
    if found.torn_bytes:
        kept = [name for name in system.names(folder) if name.endswith(TORN_SUFFIX) and name not in before]
        done.append(
            f"{path}: the {found.torn_bytes} bytes after the last whole commit are given up, as a commit that was "
            f"never finished; they are kept as {', '.join(kept) or 'nothing, the disk is full'}"
        )
    system.sync_folder(folder)
    return done
