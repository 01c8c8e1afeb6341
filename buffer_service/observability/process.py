"""Memory of this process and the limit it runs under."""

from __future__ import annotations

import os
from pathlib import Path

_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NO_LIMIT_BYTES = 1 << 60


def rss_bytes() -> int:
    """Return the resident memory of this process, mapped files included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


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
