"""What one buffer does on this machine, beside what its disk can do. Run: make bench.

Client and server share the cores. Each figure is the median over rounds, with the lowest and highest; the parts of a
round are interleaved, because machines drift. The disk's own fdatasync is measured in the same rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from buffer_client import BufferClient, Experience

DIMENSION = 512
CALLS = 200
PAYLOAD = "x" * 500


@contextmanager
def service(folder: Path, backend: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a service on a free port; yields its address and process."""
    environment = os.environ | {
        "XBUF_PERSISTENCE__BACKEND": backend,
        "XBUF_EMBEDDING__DIMENSION": str(DIMENSION),
        "XBUF_REBUILD__EVERY_OPERATIONS": "5000",
    }
    command = [sys.executable, "-m", "buffer_service.cli", "serve", "--data", str(folder), "--port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield line.removeprefix("listening on ").strip(), process
        finally:
            process.terminate()


def timed(call: Callable[[int], object]) -> tuple[float, float]:
    """Return the median and the 99th percentile of CALLS calls, in milliseconds."""
    times = []
    for number in range(CALLS):
        started = time.perf_counter()
        call(number)
        times.append(1000 * (time.perf_counter() - started))
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def fdatasync(folder: Path) -> tuple[float, float]:
    """Time appends of 4 KiB with fdatasync."""
    with (folder / "probe").open("ab", buffering=0) as file:

        def append(_: int) -> None:
            file.write(b"\1" * 4096)
            os.fdatasync(file.fileno())

        return timed(append)


class Figures:
    """Rounds of (p50, p99) by name."""

    def __init__(self) -> None:
        self._rounds: dict[str, list[tuple[float, float]]] = {}

    def add(self, name: str, figure: tuple[float, float]) -> None:
        """Take in one round."""
        self._rounds.setdefault(name, []).append(figure)

    def table(self, title: str) -> Table:
        """Return the medians and spreads."""
        table = Table("", "p50 ms", "rounds", "p99 ms", "rounds", title=title)
        for name, rounds in self._rounds.items():
            cells = []
            for figures in zip(*rounds, strict=True):
                cells += [f"{statistics.median(figures):.2f}", f"{min(figures):.2f} to {max(figures):.2f}"]
            table.add_row(name, *cells)
        return table


def fill(client: BufferClient, rows: int, random: np.random.Generator) -> None:
    """Append rows in large requests."""
    while rows > 0:
        count = min(1000, rows)
        vectors = random.standard_normal((count, DIMENSION)).astype(np.float32)
        client.append([Experience(visual=row, confidence=0.5, question=PAYLOAD) for row in vectors])
        rows -= count


def measure(client: BufferClient, random: np.random.Generator, backend: str, figures: Figures) -> None:
    """One round of every kind of call on one connection."""
    vectors = random.standard_normal((CALLS, DIMENSION)).astype(np.float32)
    experiences = [Experience(visual=row, confidence=0.5, question=PAYLOAD) for row in vectors]
    figures.add(f"{backend}: durable append of one", timed(lambda number: client.append([experiences[number]])))
    figures.add(f"{backend}: search, k=10", timed(lambda number: client.search(vectors=vectors[number][None], k=10)))
    figures.add(f"{backend}: sample(256)", timed(lambda _: client.sample(256)))


def recovery_s(folder: Path, backend: str, probe: np.ndarray, expected: int) -> float:
    """Return the seconds from the start of a service, killed before, to its first correct search."""
    started = time.perf_counter()
    with service(folder, backend) as (url, _), BufferClient(url) as client:
        found = int(client.search(vectors=probe[None], k=1).ids[0, 0])
        if found != expected:
            raise AssertionError(f"after kill -9 experience {expected} was not found, but {found}")
        return time.perf_counter() - started


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    figures, console = Figures(), Console()
    with tempfile.TemporaryDirectory(prefix="xbuf-bench-") as name:
        root = Path(name)
        with service(root / "file", "file") as file, service(root / "lmdb", "lmdb") as lmdb:
            clients = {"file": BufferClient(file[0]), "lmdb": BufferClient(lmdb[0])}
            for client in clients.values():
                fill(client, given.rows, random)
            for _ in range(given.rounds):
                figures.add("disk: fdatasync of 4 KiB", fdatasync(root))
                for backend, client in clients.items():
                    measure(client, random, backend, figures)
            probe = random.standard_normal(DIMENSION).astype(np.float32)
            last = {
                backend: int(client.append([Experience(visual=probe, confidence=0.5)]).ids[0])
                for backend, client in clients.items()
            }
            for _, process in (file, lmdb):
                process.kill()
        console.print(figures.table(f"{given.rows} x {DIMENSION}, one connection, {os.cpu_count()} cores"))
        for backend, expected in last.items():
            seconds = recovery_s(root / backend, backend, probe, expected)
            console.print(f"{backend}: {seconds:.2f} s from start after kill -9 to the first correct search")


if __name__ == "__main__":
    main()
