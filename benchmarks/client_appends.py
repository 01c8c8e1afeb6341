"""How much of what the server takes the Python client delivers. Run: make bench ARGS=client_appends.

The same experiences (512 float32, 500 bytes of metadata, a client_id each) go to one service over HTTP: from the lean
generator of ``load``, whose requests are built before, and from the client, which makes, encodes and sends them and
reads the ids. Generator and client are each a process of one slice; slices are interleaved, and the ratios are taken
within a round, with the same number of requests under way. Every slice begins with a warm-up.
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
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count, cycle, islice
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load
from benchmarks.processes import ROWS_MAX, service
from benchmarks.workload import POOL, http_request, metadata, vectors
from buffer_client import BackgroundAppender, BufferClient, Experience
from buffer_client.stream import CHUNK_ROWS

_CONNECTIONS = 16
_STREAMS = 2
_PLACE = "client-id-is-put-here-as-32-char"
_WARM_UP_S = 0.5
_CREATED = b"HTTP/1.1 201 "
_RAW_CHUNKS, _RAW_PAIRS = "generator, 1,024 rows a request", "generator, two such requests at a time"
_RAW_ROWS = "generator, 16 requests of one row at a time"
_LIMITS = {
    "append_stream": _RAW_CHUNKS,
    "BackgroundAppender": _RAW_CHUNKS,
    "append_stream in two threads": _RAW_PAIRS,
    "append of one row in 16 threads": _RAW_ROWS,
}
"""Each way of the client, and which of the generator's it is held against."""

Slice = Callable[[str, float], float]
"""From the service's address and a time in seconds to rows per second."""


def _raw(rows: int, connections: int) -> Slice:
    def run(url: str, duration_s: float) -> float:
        place = urlsplit(url)
        load = Load(str(place.hostname), int(place.port or 80), connections)
        return rows * load.drive(_requests(place.netloc, rows), _CREATED, duration_s, _WARM_UP_S).rate

    return run


def _requests(host: str, rows: int) -> Iterator[bytes]:
    """Yield whole requests without end, as the client would send them, every row under a client_id of its own."""
    fields = ({"client_id": _PLACE, "confidence": 0.5, "visual": row.tobytes()} for row in vectors(POOL))
    encoded = (msgspec.msgpack.encode({**item, "metadata": metadata(number)}) for number, item in enumerate(fields))
    parts = cycle([item.partition(_PLACE.encode()) for item in encoded])
    session = uuid4().hex[:16].encode()
    numbers = count()
    empty = msgspec.msgpack.encode({"experiences": [None] * rows})
    head = empty[: len(empty) - rows]
    while True:
        pieces = [head]
        for before, _, after in islice(parts, rows):
            pieces += (before, session, b"%016x" % next(numbers), after)
        yield http_request(host, "/v1/experiences", "application/msgpack", b"".join(pieces))


@cache
def _pool() -> list[tuple[npt.NDArray[np.float32], dict[str, str]]]:
    return [(row, metadata(number)) for number, row in enumerate(vectors(POOL))]


def _experiences(duration_s: float) -> Iterator[Experience]:
    """Make experiences until the time is up."""
    ends = time.perf_counter() + duration_s
    for row, content in cycle(_pool()):
        yield Experience(visual=row, confidence=0.5, metadata=content)
        if time.perf_counter() > ends:
            return


def _stream(url: str, duration_s: float) -> float:
    with BufferClient(url) as client:
        client.append_stream(_experiences(_WARM_UP_S))
        began = time.perf_counter()
        return len(client.append_stream(_experiences(duration_s)).ids) / (time.perf_counter() - began)


def _two_streams(url: str, duration_s: float) -> float:
    with BufferClient(url) as client, ThreadPoolExecutor(_STREAMS) as threads:

        def append(seconds: float) -> int:
            return len(client.append_stream(_experiences(seconds)).ids)

        list(threads.map(append, [_WARM_UP_S] * _STREAMS))
        began = time.perf_counter()
        return sum(threads.map(append, [duration_s] * _STREAMS)) / (time.perf_counter() - began)


def _background(url: str, duration_s: float) -> float:
    with BufferClient(url) as client, BackgroundAppender(client) as appender:
        for experience in _experiences(_WARM_UP_S):
            appender.put(experience)
        appender.flush()
        rows, began = 0, time.perf_counter()
        for experience in _experiences(duration_s):
            appender.put(experience)
            rows += 1
        appender.flush()
        return rows / (time.perf_counter() - began)


def _one_by_one(url: str, duration_s: float) -> float:
    with BufferClient(url) as client, ThreadPoolExecutor(_CONNECTIONS) as threads:

        def append(seconds: float) -> int:
            return sum(len(client.append(experience).ids) for experience in _experiences(seconds))

        list(threads.map(append, [_WARM_UP_S] * _CONNECTIONS))
        began = time.perf_counter()
        return sum(threads.map(append, [duration_s] * _CONNECTIONS)) / (time.perf_counter() - began)


_SLICES: dict[str, Slice] = {
    _RAW_CHUNKS: _raw(CHUNK_ROWS, 1),
    "append_stream": _stream,
    "BackgroundAppender": _background,
    _RAW_PAIRS: _raw(CHUNK_ROWS, _STREAMS),
    "append_stream in two threads": _two_streams,
    _RAW_ROWS: _raw(1, _CONNECTIONS),
    "append of one row in 16 threads": _one_by_one,
}


def _slice(url: str, name: str, duration_s: float) -> float:
    """Run one slice as a process."""
    command = [sys.executable, "-m", "benchmarks.client_appends", "--slice", name, url, "--seconds", str(duration_s)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def _rounds(given: argparse.Namespace, console: Console) -> list[dict[str, float]]:
    settings = {
        "XBUF_BUFFER__CAPACITY": str(ROWS_MAX),
        "XBUF_INDEX__DELTA_ROWS_MAX": str(ROWS_MAX),
        "XBUF_REBUILD__MODE": "off",
    }
    taken = []
    with tempfile.TemporaryDirectory(prefix="xbuf-bench-") as name:
        for number in range(given.rounds):
            console.print(f"round {number + 1}", style="dim")
            with service(Path(name) / str(number), "file", settings) as server:
                taken.append({kind: _slice(server.url, kind, given.seconds) for kind in _SLICES})
    return taken


def _cell(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    """Print the table, or run one slice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a slice")
    parser.add_argument("--slice", nargs=2, metavar=("NAME", "URL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.slice:
        name, url = given.slice
        print(_SLICES[name](url, given.seconds))
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    taken = _rounds(given, console)
    table = Table("durable appends", "rows per second", "of what the generator gets")
    for name in _SLICES:
        ratios = [one[name] / one[_LIMITS[name]] for one in taken] if name in _LIMITS else []
        table.add_row(name, _cell([one[name] for one in taken], ",.0f"), _cell(ratios, ".2f") if ratios else "")
    console.print(table)
    console.print(
        f"- {os.cpu_count()} cores, client and server on them; median (lowest to highest) of {len(taken)} rounds"
    )


if __name__ == "__main__":
    main()
