"""This process: its memory, the limit it runs under, the room on its disks, and whose end it follows."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
from pathlib import Path
from typing import NamedTuple

_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NO_LIMIT_BYTES = 1 << 60
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""That of glibc."""


class Room(NamedTuple):
    """How large a file system is, and what of it this process may still take."""

    size_bytes: int
    free_bytes: int


def room_of(folder: Path) -> Room:
    """Return the room on the file system of the folder; zeros where it cannot be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return Room(0, 0)
    return Room(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def rss_bytes() -> int:
    """Return the resident memory of this process, mapped files included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def give_back_memory() -> None:
    """Give memory that was freed back to the system, where the C library knows how to; a millisecond or two.

    By itself it keeps what lies between pieces that are still in use.
    """
    if _trim is not None:
        _trim(0)


def end_with(pid: int) -> None:
    """End this process with SIGTERM as soon as that one has ended, however it ends; at once if it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGTERM)
        return

    def follow() -> None:
        select.select([descriptor], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="follow", daemon=True).start()


def memory_limit_bytes() -> int | None:
    """Return the container's memory limit, None where there is none."""
    for path in _LIMIT_FILES:
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):
            continue
        if limit < _NO_LIMIT_BYTES:
            return limit
    return None
