"""A service in a process of its own, observed from outside: its memory, its files, its first answers.

Used by the benchmarks that kill it. Everything is read from /proc and over HTTP; nothing here runs inside the service.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from buffer_client import Experience

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

DIMENSION = 512
_BLOCK_ROWS = 1000
_CLUSTERS = 1000
_ROOT = Path(__file__).parents[1]
_LISTENING = "listening on "


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process, in MiB."""

    rss_mib: float
    """All that is resident, mapped files included: what ``top`` and VmHWM count."""
    private_mib: float
    """The part that belongs to no file, which the kernel cannot give up."""
    peak_mib: float
    """The highest ``rss_mib`` so far (VmHWM)."""

    @classmethod
    def of(cls, process: int) -> Memory:
        """Read it."""
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return cls(*(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "VmHWM")))


class ObservedService:
    """One run of ``xbuf serve``, from its start until it is killed.

    It has a process group of its own, so that rebuilds that it has started can be ended with it. One thread at a time.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("XBUF_")}
        environment = inherited | {f"XBUF_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "buffer_service.cli", "serve", "--data", str(folder), "--port", "0"]
        log = folder.with_name(f"{folder.name}.log")
        self._started = time.perf_counter()
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        line = self.process.stdout.readline() if self.process.stdout else ""
        self.listening_s = self.age_s()
        """From the start of the process to its first line of output."""
        if not line.startswith(_LISTENING):
            raise RuntimeError(f"the service did not start: {log.read_text()[-2000:]}")
        self.url = line.removeprefix(_LISTENING).strip()
        address = urlsplit(self.url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)

    def age_s(self) -> float:
        """Return the seconds since the process was started."""
        return time.perf_counter() - self._started

    def memory(self) -> Memory:
        """Return its memory now."""
        return Memory.of(self.process.pid)

    def cpu_s(self) -> float:
        """Return the processor time that it has used: what a loaded machine does not lengthen."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str) -> bytes:
        """GET a path; raises RuntimeError unless it is answered with 200."""
        return self._answered("GET", path, None)

    def nearest(self, vectors: Vectors) -> Ids:
        """Return the id of the experience nearest to each of the (n, DIMENSION) float32 vectors."""
        body = self._answered("POST", "/v1/search?k=1", np.ascontiguousarray(vectors, "<f4").tobytes())
        return np.frombuffer(body, "<i8", count=len(vectors)).astype(np.int64)

    def kill(self) -> None:
        """End the service alone by SIGKILL; a rebuild that it has started goes on."""
        self.process.kill()
        self.process.wait()
        self._connection.close()

    def kill_all(self) -> None:
        """End by SIGKILL the service and what it has started, as far as that still runs."""
        self.kill()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _answered(self, method: str, path: str, body: bytes | None) -> bytes:
        self._connection.request(method, path, body, {"content-type": "application/octet-stream"})
        response = self._connection.getresponse()
        content = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:500]!r}")
        return content


def rows_at(first: int, count: int) -> Vectors:
    """Return the ``count`` unit vectors from row ``first`` on: clustered, and the same at every call."""
    centres = np.random.default_rng(0).standard_normal((_CLUSTERS, DIMENSION), np.float32)
    blocks = []
    for block in range(first // _BLOCK_ROWS, (first + count - 1) // _BLOCK_ROWS + 1):
        random = np.random.default_rng([1, block])
        noise = random.standard_normal((_BLOCK_ROWS, DIMENSION), np.float32)
        blocks.append(centres[random.integers(_CLUSTERS, size=_BLOCK_ROWS)] + noise)
    start = first % _BLOCK_ROWS
    vectors = np.concatenate(blocks)[start : start + count]
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def content(row: int) -> dict[str, Any]:
    """Return the other fields of a row: 300 to 400 bytes of payload."""
    return {
        "confidence": (row % 100) / 100,
        "question": f"What does the label in picture {row} say? " + "context " * 20,
        "answer": "B",
        "rewards": [0.5, float(row % 2)],
        "metadata": {"row": row, "task": f"task-{row % 17}", "model": "vlm-7b"},
    }


def experiences(first: int, count: int) -> list[Experience]:
    """Return rows to append, named by row: one that is sent twice is not added twice."""
    rows = enumerate(rows_at(first, count), start=first)
    return [Experience(client_id=f"row-{row:028d}", visual=vector, **content(row)) for row, vector in rows]


def disk_bytes(folder: Path) -> int:
    """Return the bytes that the files under a folder take on disk; what vanishes meanwhile does not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def forget_cache(folder: Path) -> None:
    """Drop the files under a folder from the page cache, as after a start on another machine."""
    os.sync()
    for parent, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
