"""A disk that loses what was not synced, under a real process: ``lazy_disk.py MOUNTPOINT SURVIVORS``, see the options.

A FUSE mount over ``simulated_fs``. Before every operation that changes something it writes out what
a power loss at this moment would leave, and beside it what a process had acknowledged by then: it reads the pipe that
the process prints to, and the process cannot go on while its operation is held. One thread; ends when it is unmounted.
"""

from __future__ import annotations

import argparse
import errno
import os
import stat
from pathlib import Path

from mfusepy import FUSE, Operations

from tests.helpers.simulated_fs import FOLDER, Inode, SimulatedFile, SimulatedFileSystem
from tests.helpers.survivors import Survivors

_BLOCK_BYTES = 512


class LazyDisk(Operations):  # type: ignore[misc] # it is untyped
    """The operations of the mount."""

    use_ns = True

    def __init__(self, system: SimulatedFileSystem, unreadable: tuple[str, int] = ("", 0)) -> None:
        self._system = system
        self._open: dict[int, SimulatedFile] = {}
        self._next_handle = 1
        self._unreadable = unreadable
        self._folders = {"/"}

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """Tell kind and size."""
        if path in self._folders:
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        file = self._open[fh] if fh else self._system.open(_at(path))
        size = file.size()
        blocks = -(-size // _BLOCK_BYTES)
        return {"st_mode": stat.S_IFREG | 0o640, "st_nlink": 1, "st_size": size, "st_blocks": blocks}

    def readdir(self, path: str, fh: int) -> list[str]:
        """List a folder."""
        del fh
        below = [Path(folder).name for folder in self._folders - {"/"} if str(Path(folder).parent) == path]
        return [".", "..", *below, *self._system.names(_at(path))]

    def mkdir(self, path: str, mode: int) -> int:
        """Make a folder, which a power loss leaves."""
        del mode
        self._folders.add(path)
        return 0

    def rmdir(self, path: str) -> int:
        """Remove a folder."""
        self._folders.remove(path)
        return 0

    def create(self, path: str, mode: int, fi: object = None) -> int:
        """Create and open."""
        del mode, fi
        return self._opened(self._system.create(_at(path)))

    def open(self, path: str, flags: int) -> int:
        """Open what is there."""
        del flags
        return self._opened(self._system.open(_at(path)))

    def release(self, path: str, fh: int) -> int:
        """Close."""
        del path
        del self._open[fh]
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Read, unless the byte that cannot be read is among them."""
        name, bad = self._unreadable
        if _at(path).name == name and offset <= bad < offset + size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._open[fh].read_at(size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Write to what is not synced yet."""
        del path
        self._open[fh].write_at(data, offset)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """Change the size."""
        del fh
        self._system.open(_at(path)).truncate(length)
        return 0

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int) -> int:
        """Take up space."""
        del path, mode
        self._open[fh].allocate(offset + size)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        """Make durable; after an error the disk holds what it holds, whatever the kernel still caches."""
        del path, datasync
        try:
            self._open[fh].sync()
        except OSError:
            self._open[fh].forget_cache()
            raise
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        """Make names durable."""
        del datasync, fh
        self._system.sync_folder(_at(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        """Rename."""
        self._system.rename(_at(old), _at(new))
        return 0

    def link(self, target: str, source: str) -> int:
        """Give a second name; a power loss moves the first one's file there, or leaves it."""
        self._system.step("link", _at(target))
        inode = self._system.files[_at(source)]
        self._system.files[_at(target)] = inode
        self._system.pending_names.append((_at(target), inode))
        return 0

    def unlink(self, path: str) -> int:
        """Remove a name."""
        self._system.remove(_at(path))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        """Take no notice."""
        del path, mode
        return 0

    def _file(self, path: str, fh: int | None) -> SimulatedFile:
        if fh:
            return self._open[fh]
        assert path is not None
        return self._system.open(_at(path))

    def _opened(self, file: SimulatedFile) -> int:
        self._next_handle += 1
        self._open[self._next_handle] = file
        return self._next_handle


def _at(path: str) -> Path:
    return FOLDER / path.removeprefix("/") if path != "/" else FOLDER


def main() -> None:
    """Serve the mount until it is unmounted, then write out the last survivor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mountpoint")
    parser.add_argument("survivors", type=Path)
    parser.add_argument("--pipe", type=int, help="descriptor to read what is acknowledged from")
    parser.add_argument("--every", type=int, default=1, help="write out a survivor before every so many operations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--content", type=Path, help="folder whose files are on the disk at first")
    parser.add_argument("--whole-sectors", action="store_true", help="a write within one sector is never torn")
    parser.add_argument("--failing-sync", type=int, default=0, help="number of the sync of a file that fails")
    parser.add_argument("--unreadable", nargs=2, default=("", "0"), help="file, and offset in it, that cannot be read")
    given = parser.parse_args()

    system = SimulatedFileSystem(given.seed)
    system.whole_sectors = given.whole_sectors
    for source in given.content.iterdir() if given.content else ():
        data = source.read_bytes()
        system.files[FOLDER / source.name] = Inode(data, [], bytearray(data), whole_sectors=given.whole_sectors)
    system.durable_names = dict(system.files)
    survivors = Survivors(system, given.survivors, given.pipe, given.every)
    system.before_step = survivors.before_step
    syncs = 0

    def fail(_step: int, kind: str, _path: Path) -> int | None:
        nonlocal syncs
        syncs += kind == "sync"
        return errno.EIO if kind == "sync" and syncs == given.failing_sync else None

    system.fail = fail
    name, offset = given.unreadable
    FUSE(LazyDisk(system, (name, int(offset))), given.mountpoint, foreground=True, nothreads=True, hard_remove=True)
    survivors.write()


if __name__ == "__main__":
    main()
