"""The few file operations that the file store stands on, so that tests can put a disk with faults beneath it.

Every durable change of the file store goes through here. Nothing is durable before ``sync`` (a file's content and
size) or ``sync_folder`` (names). Errors are those of the system, as OSError. Any thread; a file is written by one
thread at a time.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errors that mean: no space, and nothing else is wrong."""

TEMPORARY_SUFFIX = ".tmp"
"""Ends the names of files that are being written; such a file may be removed at any start."""
_WRITE_BYTES = 1 << 20


class File(Protocol):
    """An open file, closed when it is given up."""

    def write_at(self, data: bytes, offset: int) -> None:
        """Write all of ``data``; after an error any part of it may have been written."""
        ...

    def read_at(self, size: int, offset: int) -> bytes:
        """Return ``size`` bytes, fewer only at the end of the file."""
        ...

    def watch(self, size: int) -> Callable[[], bytes]:
        """Return what reads the first ``size`` bytes, which are there, as they are whenever it is called."""
        ...

    def sync(self) -> None:
        """Make content and size durable. After an error it must not be called again on this file."""
        ...

    def truncate(self, size: int) -> None:
        """Set the size."""
        ...

    def allocate(self, size: int) -> None:
        """Take up ``size`` bytes of the disk."""
        ...

    def forget_cache(self) -> None:
        """Have what was synced read from the disk again."""
        ...

    def size(self) -> int:
        """Return the size in bytes."""
        ...


class FileSystem(Protocol):
    """The folder operations."""

    def make_folder(self, folder: Path) -> None:
        """Create the folder and its parents durably, where they are missing."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Return the names in the folder, sorted."""
        ...

    def free_bytes(self, folder: Path) -> int:
        """Return how much of the folder's disk is left for this user; a quota is not seen."""
        ...

    def create(self, path: Path) -> File:
        """Create a file for reading and writing; an old one of this name is emptied."""
        ...

    def open(self, path: Path) -> File:
        """Open an existing file for reading and writing."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Rename, replacing the target in one step."""
        ...

    def rename_new(self, source: Path, target: Path) -> None:
        """Rename; raises FileExistsError when the target is there. After a crash the source may be there as well."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a name; one that is not there is fine."""
        ...

    def sync_folder(self, folder: Path) -> None:
        """Make created, renamed and removed names of the folder durable."""
        ...


class RealFile:
    """A file of the operating system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def write_at(self, data: bytes, offset: int) -> None:
        """See File."""
        written = os.pwrite(self._descriptor, data, offset)
        rest = memoryview(data)[written:]
        while rest:
            offset += written
            written = os.pwrite(self._descriptor, rest, offset)
            rest = rest[written:]

    def read_at(self, size: int, offset: int) -> bytes:
        """See File."""
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def watch(self, size: int) -> Callable[[], bytes]:
        """See File. A mapping: reading it neither enters the kernel nor gives up the interpreter lock."""
        mapped = mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ)
        return lambda: mapped[:size]

    def sync(self) -> None:
        """See File."""
        os.fdatasync(self._descriptor)

    def truncate(self, size: int) -> None:
        """See File."""
        os.ftruncate(self._descriptor, size)

    def allocate(self, size: int) -> None:
        """See File."""
        os.posix_fallocate(self._descriptor, 0, size)

    def forget_cache(self) -> None:
        """See File."""
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self) -> int:
        """See File."""
        return os.fstat(self._descriptor).st_size


class RealFileSystem:
    """The operating system's files."""

    def make_folder(self, folder: Path) -> None:
        """See FileSystem."""
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            self.sync_folder(path.parent)

    def names(self, folder: Path) -> list[str]:
        """See FileSystem."""
        return sorted(path.name for path in folder.iterdir())

    def free_bytes(self, folder: Path) -> int:
        """See FileSystem."""
        disk = os.statvfs(folder)
        return disk.f_bavail * disk.f_frsize

    def create(self, path: Path) -> File:
        """See FileSystem."""
        return RealFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640))

    def open(self, path: Path) -> File:
        """See FileSystem."""
        return RealFile(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def open_to_read(self, path: Path) -> File:
        """Open a file that may be on a read-only disk."""
        return RealFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def rename(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        source.replace(target)

    def rename_new(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        os.link(source, target)
        source.unlink()

    def remove(self, path: Path) -> None:
        """See FileSystem."""
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """See FileSystem."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_durably(
    system: FileSystem,
    path: Path,
    parts: Iterable[bytes],
    *,
    verify: Callable[[File], None] | None = None,
    epoch: int = 0,
) -> int:
    """Write a whole file, so that after a crash its name holds all of it or what it held before; returns its size.

    ``verify`` reads the file back before it gets its name, and raises if it is not what it should be. Two processes
    with different epochs do not get into each other's way before that.
    """
    size = _write_beside(system, path, parts, epoch, verify)
    system.rename(_beside(path, epoch), path)
    system.sync_folder(path.parent)
    return size


def write_new(system: FileSystem, path: Path, parts: Iterable[bytes], epoch: int) -> None:
    """Write a file that is not there yet; its name is durable once the folder is synced. Raises FileExistsError."""
    _write_beside(system, path, parts, epoch, None)
    beside = _beside(path, epoch)
    try:
        system.rename_new(beside, path)
    except OSError:
        remove_unfinished(system, beside)
        raise


def _beside(path: Path, epoch: int) -> Path:
    return path.with_name(f"{path.name}.{epoch}{TEMPORARY_SUFFIX}")


def _write_beside(
    system: FileSystem, path: Path, parts: Iterable[bytes], epoch: int, verify: Callable[[File], None] | None
) -> int:
    beside = _beside(path, epoch)
    file = system.create(beside)
    offset = 0
    try:
        for data in _gathered(parts):
            file.write_at(data, offset)
            offset += len(data)
        file.sync()
        if verify is not None:
            verify(file)
    except Exception:
        remove_unfinished(system, beside)
        raise
    return offset


def remove_unfinished(system: FileSystem, beside: Path) -> None:
    """Free the space; where that fails, the next start does it."""
    with contextlib.suppress(OSError):
        system.remove(beside)


def _gathered(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join small parts, so that writing them takes few calls."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= _WRITE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
