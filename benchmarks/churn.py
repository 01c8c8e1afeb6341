"""How much disk and memory a full buffer takes while everything in it is replaced, over and over. Run: make bench.

A service of a small capacity is filled over HTTP and written to until each place has been taken many times; priorities
are updated and rebuilds go on by themselves meanwhile. The folders of the store (log and snapshots, or LMDB), of the
export and of the indexes are measured all the while and set against the live bytes: vectors and payloads of the live
experiences. What counts is the highest ratio, and that the last third of the run goes no higher than the one
before. So it does for the service's private memory, which switches from one index to the next must leave as it was.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.observed import DIMENSION, ObservedService, content, disk_bytes, experiences
from buffer_client import BufferClient

FOLDERS = ("store", "export", "indexes")
MEMORY = "memory"
_ROWS_PER_REQUEST = 500
_READING_INTERVAL_S = 0.1
_GROWTH_MAX = {MEMORY: 1.05} | dict.fromkeys(FOLDERS, 1.1)
_MIB = 2**20

console = Console()


@dataclass(slots=True)
class Readings:
    """Sizes in bytes of each folder over time; taken by a thread of their own."""

    root: Path
    service: ObservedService
    sizes: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in (*FOLDERS, MEMORY)})
    switches: int = 0
    """From one index to the next, while they were taken."""

    def take(self, until: Callable[[], bool]) -> None:
        """Read the sizes again and again until the call says so."""
        while not until():
            for name in FOLDERS:
                self.sizes[name].append(disk_bytes(self.root / name))
            self.sizes[MEMORY].append(_MIB * self.service.memory().private_mib)
            time.sleep(_READING_INTERVAL_S)

    def thirds(self, name: str) -> tuple[float, float]:
        """Return the mean size in the second and in the last third; in the first one, pools and folders fill."""
        sizes = self.sizes[name]
        third = len(sizes) // 3
        return statistics.mean(sizes[third : 2 * third]), statistics.mean(sizes[2 * third :])


def write(client: BufferClient, first: int, last: int) -> None:
    """Append rows first..last, and update the priorities of some of them."""
    for start in range(first, last, _ROWS_PER_REQUEST):
        count = min(_ROWS_PER_REQUEST, last - start)
        ids = client.append(experiences(start, count)).ids
        client.update_priorities(ids[::4], np.linspace(0.1, 1.0, len(ids[::4])))


def churn(root: Path, backend: str, capacity: int, turnovers: int) -> Readings:
    """Fill a service, then replace its content ``turnovers`` times; returns the sizes from the fill's end on."""
    service = ObservedService(root, persistence__backend=backend, buffer__capacity=capacity)
    readings, done = Readings(root, service), threading.Event()
    observer = threading.Thread(target=readings.take, args=(done.is_set,))
    try:
        with BufferClient(service.url, timeout_s=60, deadline_s=300, retries=100) as client:
            write(client, 0, capacity)
            before = client.status().generation
            observer.start()
            write(client, capacity, capacity * (turnovers + 1))
            readings.switches = client.status().generation - before
    finally:
        done.set()
        if observer.ident is not None:
            observer.join()
        service.kill_all()
    return readings


def main() -> None:
    """Churn on both backends, one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", type=int, default=20_000)
    parser.add_argument("--turnovers", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="where the data goes; default: a temporary folder")
    given = parser.parse_args()
    payload_bytes = sum(len(msgspec.msgpack.encode(content(row))) for row in range(1000)) / 1000
    live_bytes = given.capacity * (4 * DIMENSION + payload_bytes)
    columns = ("highest", "/ live", "mean, 2nd third", "last third", "grows")
    title = f"{given.turnovers} turnovers of {given.capacity} rows, {live_bytes / _MIB:.0f} MiB live"
    table = Table("", *columns, title=title)
    for backend in ("file", "lmdb"):
        with tempfile.TemporaryDirectory(prefix="xbuf-bench-", dir=given.folder) as folder:
            readings = churn(Path(folder) / "data", backend, given.capacity, given.turnovers)
        for name in readings.sizes:
            first, second = readings.thirds(name)
            highest = max(readings.sizes[name])
            sizes = (f"{size / _MIB:.0f} MiB" for size in (first, second))
            grows = "no" if second <= _GROWTH_MAX[name] * first else "YES"
            times = f"{highest / live_bytes:.2f}" if name in FOLDERS else ""
            table.add_row(f"{backend}: {name}", f"{highest / _MIB:.0f} MiB", times, *sizes, grows)
        console.print(f"{backend}: {readings.switches} switches", style="dim")
    console.print(table)


if __name__ == "__main__":
    main()
