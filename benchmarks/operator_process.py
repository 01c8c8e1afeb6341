"""The operator of this checkout as a process of its own, with what it counts and what it uses."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_PORT = re.compile(r"probes and metrics on port (\d+)")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Counts:
    """What the operator has counted and used so far."""

    at: float
    cpu_s: float
    reads: float
    writes: float
    looks: float


class Operator:
    """One operator process."""

    def __init__(self, namespace: str, resync_s: float, log: Path) -> None:
        self._log = log
        flags = [f"--namespaces={namespace}", "--host=127.0.0.1", "--port=0", "--image=stand-in:1"]
        flags += [f"--resync-s={resync_s}"]
        with log.open("w") as out:
            command = [sys.executable, "-m", "buffer_operator", *flags]
            self.process = subprocess.Popen(command, cwd=_ROOT, stdout=out, stderr=out)
        self._port = ""

    async def started(self) -> bool:
        """Whether it answers; raises RuntimeError where it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the operator ended: {self._log.read_text()[-2000:]}")
        found = _PORT.search(self._log.read_text())
        self._port = found.group(1) if found else ""
        return bool(found)

    def counts(self) -> Counts:
        """Ask it, and /proc."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=30) as answer:
            lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]

        def total(name: str, fits: Callable[[str], bool]) -> float:
            return sum(float(value) for key, value in lines if key.startswith(name) and fits(key))

        requests = "xbuf_operator_api_requests_total{"
        return Counts(
            at=time.monotonic(),
            cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
            reads=total(requests, lambda key: 'verb="GET"' in key),
            writes=total(requests, lambda key: 'verb="GET"' not in key),
            looks=total("xbuf_operator_reconciles_total{", lambda _: True),
        )

    def end(self) -> None:
        """Kill it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
