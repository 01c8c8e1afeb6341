"""Limits on a process that runs already."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_GROUPS = Path("/sys/fs/cgroup")
_FILES = {
    _GROUPS / "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    _GROUPS: ("memory.max", "memory.swap.max"),
}
"""Version 1 and version 2; swap is limited where there is any."""


@contextmanager
def memory_limit(pid: int, size_bytes: int) -> Iterator[None]:
    """Let the process take so much memory more; the kernel kills it beyond that. Skips where there are no cgroups."""
    for parent, (limit, swap) in _FILES.items():
        group = parent / f"xbuf-test-{os.getpid()}-{pid}"
        try:
            group.mkdir()
            (group / limit).write_text(str(size_bytes))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        if (group / swap).exists():
            (group / swap).write_text(str(size_bytes) if "memsw" in swap else "0")
        try:
            (group / "cgroup.procs").write_text(str(pid))
            yield
        finally:
            if Path(f"/proc/{pid}").exists():
                (parent / "cgroup.procs").write_text(str(pid))
            group.rmdir()
        return
    pytest.skip("no memory cgroup can be made here")
