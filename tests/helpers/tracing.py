"""Faults at the system calls of a process that runs already: strace is attached, and taken away again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.waiting import wait_until


@contextmanager
def injecting(pid: int, injection: str) -> Iterator[None]:
    """Inject, as in ``fdatasync:delay_enter=1000000``, into every thread of the process.

    Leave it while no call is under way that fails, or when the process is dead: strace cannot be taken away within one.
    """
    call = injection.partition(":")[0]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={call}"]
    with subprocess.Popen([*command, "-e", f"inject={injection}"], stderr=subprocess.PIPE, text=True) as tracer:
        try:
            wait_until(lambda: tracer.poll() is not None or _is_traced(pid), "strace is attached")
            assert tracer.poll() is None, tracer.stderr.read() if tracer.stderr else ""
            yield
        finally:
            tracer.terminate()


def _is_traced(pid: int) -> bool:
    statuses = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return all("TracerPid:\t0\n" not in status for status in statuses)
