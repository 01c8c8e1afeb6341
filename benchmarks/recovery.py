"""How long a killed buffer takes to answer correctly again, and in how much memory. Run: make bench.

A service is filled over HTTP. In each round it is written to, killed with SIGKILL in the middle of that, and started
anew; a rebuild that it had started goes on meanwhile and competes, as it would. Measured from the start of the process,
Python's own included: to its first line of output, to the answer of /readyz, and to the first correct search: the row
that was acknowledged last is found by its own vector at rank 1. Then a sample of all rows is checked likewise.

Memory is compared twice. Resident memory counts the pages of mapped files that happen to be in use (index, LMDB's map),
so the peak after the start is set against that of the service before the kill. Private memory is what the kernel
cannot give up, so that, settled, is set against itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.observed import Memory, ObservedService, disk_bytes, experiences, forget_cache, rows_at
from buffer_client import BufferClient
from buffer_client.errors import ClientError

BARS_S = {100_000: 2.0, 1_000_000: 10.0}
MEMORY_FACTOR_MAX = 1.3
_ROWS_PER_REQUEST = 500
_FILLED_WITHOUT_REBUILDS = 200_000
_SAMPLE_RUNS = 12
_SAMPLE_RUN_ROWS = 40
_SEARCHES_PER_REQUEST = 20
_READY_TIMEOUT_S = 3600.0
_GIB = 2**30

console = Console()


@dataclass(slots=True)
class Buffer:
    """A buffer that is killed and started again; row ``id - 1`` of ``rows_at`` is experience ``id``."""

    backend: str
    folder: Path
    capacity: int
    acknowledged: int = 0
    """Rows of which the service has said that they are durable."""
    before: Memory | None = None
    """Its memory before the last kill."""
    figures: dict[str, list[float]] = field(default_factory=dict)

    def start(self, **settings: object) -> ObservedService:
        """Start a service on it with the defaults, but for these settings."""
        given = {"persistence__backend": self.backend, "buffer__capacity": self.capacity, **settings}
        return ObservedService(self.folder, **given)

    def note(self, name: str, figure: float) -> None:
        """Take in a figure of a round."""
        self.figures.setdefault(name, []).append(figure)


def append(buffer: Buffer, client: BufferClient, last: int, searches: int = _SEARCHES_PER_REQUEST) -> None:
    """Append rows until ``last`` are there, and search for some of them, as a learner does; raises ClientError."""
    while buffer.acknowledged < last:
        count = min(_ROWS_PER_REQUEST, last - buffer.acknowledged)
        given = experiences(buffer.acknowledged, count)
        answer = client.append(given)
        if int(answer.ids[-1]) != buffer.acknowledged + count:
            raise AssertionError(f"row {buffer.acknowledged + count - 1} became experience {answer.ids[-1]}")
        buffer.acknowledged += count
        if searches:
            client.search(vectors=np.stack([np.asarray(item.visual) for item in given[:searches]]))


def append_rows(buffer: Buffer, service: ObservedService, count: int, searches: int = _SEARCHES_PER_REQUEST) -> None:
    """Append that many rows, waiting where the service asks for it; what it refuses otherwise ends the benchmark."""
    try:
        with BufferClient(service.url, timeout_s=60, deadline_s=300, retries=100) as client:
            append(buffer, client, buffer.acknowledged + count, searches)
    except ClientError:
        service.kill_all()
        raise


def fill(buffer: Buffer, rows: int) -> ObservedService:
    """Fill it and wait until an index of all is served. Beyond 200,000 rows the first index is built at the end."""
    started = time.perf_counter()
    at_once = rows > _FILLED_WITHOUT_REBUILDS
    settings = {"rebuild__mode": "off", "index__delta_rows_max": 2 * rows} if at_once else {}
    service = buffer.start(**settings)
    append_rows(buffer, service, rows, 0 if at_once else _SEARCHES_PER_REQUEST)
    if at_once:
        service.kill()
        service = buffer.start()
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while (status := json.loads(service.get("/v1/status")))["rebuild_running"] or not status["generation"]:
        if time.monotonic() > deadline:
            raise AssertionError(f"no index of {rows} rows within {_READY_TIMEOUT_S} s: {status}")
        time.sleep(0.5)
    console.print(
        f"{buffer.backend}: {rows} rows in {time.perf_counter() - started:.0f} s, generation {status['generation']}, "
        f"{disk_bytes(buffer.folder) / _GIB:.2f} GiB on disk"
    )
    return service


def kill_under_load(buffer: Buffer, service: ObservedService, rows: int) -> None:
    """Write that many rows, note the memory, and kill the service while it goes on being written to."""
    append_rows(buffer, service, rows)
    buffer.before = service.memory()

    def go_on() -> None:
        with BufferClient(service.url, retries=0) as client, contextlib.suppress(ClientError):
            append(buffer, client, buffer.acknowledged + 1_000_000)

    writer = threading.Thread(target=go_on)
    reached = buffer.acknowledged + 2 * _ROWS_PER_REQUEST
    writer.start()
    while buffer.acknowledged < reached and writer.is_alive():
        time.sleep(0.001)
    service.kill()
    writer.join()


def recover(buffer: Buffer, *, cold: bool) -> ObservedService:
    """Start it again and take one round's figures."""
    if buffer.before is None:
        raise AssertionError("it was not killed before")
    last = rows_at(buffer.acknowledged - 1, 1)
    if cold:
        forget_cache(buffer.folder)
    service = buffer.start()
    service.get("/readyz")
    ready_s = service.age_s()
    found = int(service.nearest(last)[0])
    answered_s, cpu_s = service.age_s(), service.cpu_s()
    if found != buffer.acknowledged:
        raise AssertionError(
            f"{buffer.backend}: experience {buffer.acknowledged} was not found after kill -9 but {found}"
        )
    peak_mib = service.memory().peak_mib
    delta_rows = json.loads(service.get("/v1/status"))["delta_rows"]
    check_sample(buffer, service)
    settled = service.memory()
    buffer.note("listening, s", service.listening_s)
    buffer.note("readyz, s", ready_s)
    buffer.note("first correct search, s", answered_s)
    buffer.note("processor time until then, s", cpu_s)
    buffer.note("delta at the start, rows", delta_rows)
    buffer.note("RSS before the kill, MiB", buffer.before.rss_mib)
    buffer.note("peak RSS after the start, MiB", peak_mib)
    buffer.note("private before the kill, MiB", buffer.before.private_mib)
    buffer.note("private after the start, MiB", settled.private_mib)
    rows = min(buffer.acknowledged, buffer.capacity)
    buffer.note("resident bytes per row", settled.rss_mib * 2**20 / rows)
    buffer.note("private bytes per row", settled.private_mib * 2**20 / rows)
    buffer.note("peak RSS / RSS before", peak_mib / buffer.before.rss_mib)
    buffer.note("private / private before", settled.private_mib / buffer.before.private_mib)
    return service


def check_sample(buffer: Buffer, service: ObservedService) -> None:
    """Find runs of acknowledged live rows, from the oldest to the newest, by their own vectors at rank 1."""
    oldest = max(0, buffer.acknowledged - buffer.capacity + 2 * _ROWS_PER_REQUEST)
    for first in np.linspace(oldest, buffer.acknowledged - _SAMPLE_RUN_ROWS, _SAMPLE_RUNS).astype(np.int64).tolist():
        expected = np.arange(first + 1, first + 1 + _SAMPLE_RUN_ROWS)
        wrong = int(np.count_nonzero(service.nearest(rows_at(first, _SAMPLE_RUN_ROWS)) != expected))
        if wrong:
            raise AssertionError(f"{buffer.backend}: {wrong} of {_SAMPLE_RUN_ROWS} rows from {first} on were not found")


def report(buffers: list[Buffer], rows: int, rounds: int) -> None:
    """Print medians and spreads, and which bars were met."""
    table = Table(
        "", *(buffer.backend for buffer in buffers), title=f"{rows} rows, {rounds} rounds, {os.cpu_count()} cores"
    )
    for name in buffers[0].figures:
        cells = [
            f"{statistics.median(figures):.2f} ({min(figures):.2f} to {max(figures):.2f})"
            for figures in (buffer.figures[name] for buffer in buffers)
        ]
        table.add_row(name, *cells)
    console.print(table)
    for buffer in buffers:
        answered_s = statistics.median(buffer.figures["first correct search, s"])
        factor = max(statistics.median(buffer.figures[name]) for name in buffer.figures if name.endswith(" before"))
        bar_s = min((bar for size, bar in BARS_S.items() if rows <= size), default=float("inf"))
        console.print(
            f"{buffer.backend}: {answered_s:.2f} s of {bar_s} s {'met' if answered_s <= bar_s else 'MISSED'}; memory "
            f"{factor:.2f} of {MEMORY_FACTOR_MAX} {'met' if factor <= MEMORY_FACTOR_MAX else 'MISSED'}"
        )


def main() -> None:
    """Fill, then kill and recover in rounds, the backends in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--load-rows", type=int, default=10_000, help="rows written before each kill")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", choices=("file", "lmdb"), help="default: both")
    parser.add_argument("--folder", type=Path, help="where the data goes; default: a temporary folder")
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before each start")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xbuf-bench-", dir=given.folder) as name:
        backends = [given.backend] if given.backend else ["file", "lmdb"]
        buffers = [Buffer(backend, Path(name) / backend, given.rows) for backend in backends]
        for buffer in buffers:
            service = fill(buffer, given.rows)
            kill_under_load(buffer, service, given.load_rows)
            service.kill_all()
        for _ in range(given.rounds):
            for buffer in buffers:
                service = recover(buffer, cold=given.cold)
                try:
                    kill_under_load(buffer, service, given.load_rows)
                finally:
                    service.kill_all()
        report(buffers, given.rows, given.rounds)


if __name__ == "__main__":
    main()
