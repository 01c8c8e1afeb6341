"""A file system in memory that forgets what was not synced, and fails where it is told to.

Content and names are volatile until ``sync`` and ``sync_folder``. At a power loss every unsynced write survives whole,
not at all, or sector by sector, some as zeroes or junk, and every unsynced change of names survives or not. A failed
sync leaves the cache as it is and gives up on what it should have written, as Linux does. Equal seeds, equal outcomes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

SECTOR_BYTES = 512
FOLDER = Path("/simulated")


class PowerLossError(BaseException):
    """The machine is off: nothing more can be done with this file system before ``after_power_loss``."""


@dataclass(frozen=True, slots=True)
class Write:
    """An unsynced write."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """An unsynced change of size."""

    size: int


@dataclass(slots=True)
class Inode:
    """One file: what is on the disk, what is to come, and what readers see."""

    durable: bytes = b""
    pending: list[Write | Truncate] = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)
    allocated: int = 0
    whole_sectors: bool = False
    """A write within one sector survives whole or not at all, which is all that LMDB asks of a disk."""

    def apply(self, change: Write | Truncate) -> None:
        """Change what readers see, and note it for the next sync."""
        _apply(self.content, change)
        self.pending.append(change)

    def synced(self) -> bytes:
        """Return what a sync makes durable: what an earlier one failed to write is not in it."""
        content = bytearray(self.durable)
        for change in self.pending:
            _apply(content, change)
        return bytes(content)

    def survivor(self, random: Random) -> Inode:
        """Return what a power loss leaves of it."""
        content = bytearray(self.durable)
        mode = random.choice(("nothing", "everything", "some", "sectors"))
        for change in self.pending:
            if mode == "everything" or (mode == "some" and random.random() < 0.5):
                _apply(content, change)
            elif mode == "sectors" and isinstance(change, Write):
                sectors = _sectors(change)
                tearing = () if self.whole_sectors and len(sectors) == 1 else ("zeroes", "junk")
                for sector in sectors:
                    fate = random.choice(("kept", "kept", "lost", *tearing))
                    if fate == "kept":
                        _apply(content, sector)
                    elif fate != "lost":
                        junk = random.randbytes(len(sector.data)) if fate == "junk" else bytes(len(sector.data))
                        _apply(content, Write(sector.offset, junk))
        return Inode(bytes(content), [], content, whole_sectors=self.whole_sectors)


class SimulatedFile:
    """An open file."""

    def __init__(self, system: SimulatedFileSystem, inode: Inode, path: Path) -> None:
        self._system = system
        self._inode = inode
        self._path = path

    def write_at(self, data: bytes, offset: int) -> None:
        """See fs.File."""
        error = self._system.step("write", self._path)
        fitting = max(0, self._system.largest_end(self._inode, offset + len(data)) - offset)
        if error is not None:
            fitting = min(fitting, self._system.random.randrange(len(data)))
        if fitting > 0:
            self._inode.apply(Write(offset, data[:fitting]))
        if fitting < len(data):
            raise error or _error(errno.ENOSPC, self._path)

    def read_at(self, size: int, offset: int) -> bytes:
        """See fs.File."""
        self._system.require_power()
        if self._system.read_error is not None:
            raise _error(self._system.read_error, self._path)
        return bytes(self._inode.content[offset : offset + size])

    def watch(self, size: int) -> Callable[[], bytes]:
        """See fs.File."""
        return lambda: self.read_at(size, 0)

    def sync(self) -> None:
        """See fs.File."""
        error = self._system.step("sync", self._path)
        if error is not None:
            self._inode.durable = self._inode.survivor(self._system.random).durable
            self._inode.pending.clear()
            raise error
        self._inode.durable = self._inode.synced()
        self._inode.pending.clear()

    def forget_cache(self) -> None:
        """See fs.File."""
        self._inode.content = bytearray(self._inode.synced())

    def truncate(self, size: int) -> None:
        """See fs.File."""
        error = self._system.step("truncate", self._path)
        if error is not None:
            raise error
        self._inode.apply(Truncate(size))

    def allocate(self, size: int) -> None:
        """See fs.File."""
        error = self._system.step("allocate", self._path)
        if error is None and self._system.largest_end(self._inode, size) < size:
            error = _error(errno.ENOSPC, self._path)
        if error is not None:
            raise error
        self._inode.allocated = size

    def size(self) -> int:
        """See fs.File."""
        self._system.require_power()
        return len(self._inode.content)


class SimulatedFileSystem:
    """Files in one folder; ``before_step`` is called before every operation that changes something."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.files: dict[Path, Inode] = {}
        self.durable_names: dict[Path, Inode] = {}
        self.pending_names: list[tuple[Path, Inode | None]] = []
        self.steps = 0
        self.before_step: Callable[[str, Path], None] = lambda _kind, _path: None
        self.fail: Callable[[int, str, Path], int | None] = lambda _step, _kind, _path: None
        """Tells the error number with which an operation fails, by its number, kind and path."""
        self.read_error: int | None = None
        self.capacity_bytes: int | None = None
        self.power_off_at: int | None = None
        self.whole_sectors = False

    def after_power_loss(self, seed: int) -> SimulatedFileSystem:
        """Return the file system as the machine finds it when it is on again; this one is left as it is."""
        random = Random(seed)
        names = dict(self.durable_names)
        for path, inode in self.pending_names:
            if random.random() < 0.5:
                _rename(names, path, inode)
        survivors = {id(inode): inode.survivor(random) for inode in names.values()}
        system = SimulatedFileSystem(seed)
        system.files = {path: survivors[id(inode)] for path, inode in names.items()}
        system.durable_names = dict(system.files)
        system.capacity_bytes = self.capacity_bytes
        return system

    def step(self, kind: str, path: Path) -> OSError | None:
        """Count an operation; returns the error that it is to fail with."""
        self.require_power()
        self.before_step(kind, path)
        self.steps += 1
        if self.power_off_at is not None and self.steps >= self.power_off_at:
            raise PowerLossError
        code = self.fail(self.steps, kind, path)
        return None if code is None else _error(code, path)

    def require_power(self) -> None:
        """Raise PowerLossError once the machine is off."""
        if self.power_off_at is not None and self.steps >= self.power_off_at:
            raise PowerLossError

    def largest_end(self, inode: Inode, end: int) -> int:
        """Return how far a file that is to reach ``end`` may grow."""
        if self.capacity_bytes is None:
            return end
        return min(end, max(len(inode.content), inode.allocated) + max(0, self.capacity_bytes - self.used_bytes))

    @property
    def used_bytes(self) -> int:
        """What the files take up."""
        return sum(max(len(file.content), file.allocated) for file in self.files.values())

    def make_folder(self, folder: Path) -> None:
        """See fs.FileSystem; there is only one folder."""

    def names(self, folder: Path) -> list[str]:
        """See fs.FileSystem."""
        self.require_power()
        return sorted(path.name for path in self.files if path.parent == folder)

    def free_bytes(self, folder: Path) -> int:
        """See fs.FileSystem; as if there were no quota."""
        del folder
        return self.largest_end(Inode(), 1 << 40)

    def create(self, path: Path) -> SimulatedFile:
        """See fs.FileSystem."""
        self._raise(self.step("create", path))
        self._name(path, Inode(whole_sectors=self.whole_sectors))
        return self.open(path)

    def open(self, path: Path) -> SimulatedFile:
        """See fs.FileSystem."""
        self.require_power()
        if path not in self.files:
            raise _error(errno.ENOENT, path)
        return SimulatedFile(self, self.files[path], path)

    def rename(self, source: Path, target: Path) -> None:
        """See fs.FileSystem."""
        self._raise(self.step("rename", target))
        inode = self.files[source]
        self._name(target, inode)

    def rename_new(self, source: Path, target: Path) -> None:
        """See fs.FileSystem."""
        self._raise(self.step("rename", target))
        if target in self.files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        self._name(target, self.files[source])

    def remove(self, path: Path) -> None:
        """See fs.FileSystem."""
        self._raise(self.step("remove", path))
        if path in self.files:
            self._name(path, None)

    def sync_folder(self, folder: Path) -> None:
        """See fs.FileSystem."""
        self._raise(self.step("sync_folder", folder))
        self.durable_names = dict(self.files)
        self.pending_names.clear()

    def _name(self, path: Path, inode: Inode | None) -> None:
        _rename(self.files, path, inode)
        self.pending_names.append((path, inode))

    @staticmethod
    def _raise(error: OSError | None) -> None:
        if error is not None:
            raise error


def _apply(content: bytearray, change: Write | Truncate) -> None:
    size = change.size if isinstance(change, Truncate) else change.offset
    if isinstance(change, Truncate):
        del content[size:]
    content.extend(bytes(max(0, size - len(content))))
    if isinstance(change, Write):
        content[change.offset : change.offset + len(change.data)] = change.data


def _sectors(write: Write) -> list[Write]:
    ends = range((write.offset // SECTOR_BYTES + 1) * SECTOR_BYTES, write.offset + len(write.data), SECTOR_BYTES)
    cuts = [0, *(end - write.offset for end in ends), len(write.data)]
    return [Write(write.offset + start, write.data[start:end]) for start, end in pairwise(cuts)]


def _rename(names: dict[Path, Inode], path: Path, inode: Inode | None) -> None:
    if inode is None:
        names.pop(path, None)
        return
    for other in [other for other, found in names.items() if found is inode]:
        del names[other]
    names[path] = inode


def _error(code: int, path: Path) -> OSError:
    return OSError(code, os.strerror(code), str(path))
