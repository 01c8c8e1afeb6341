"""Servers under test, each a process of its own that says on its first line where it listens."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workload import DIMENSION, metadata, vectors
from buffer_client import BufferClient, Experience

ROOT = Path(__file__).parents[1]

ROWS_MAX = 2_000_000
"""More than any run appends: neither eviction nor a full delta comes into an append then."""
_ROWS_PER_REQUEST = 1000
_BUILD_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens."""

    url: str
    pid: int


@contextmanager
def listening(arguments: Sequence[str], settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run ``python -m`` with these arguments until the block ends; raises RuntimeError when it does not listen."""
    environment = os.environ | dict(settings or {})
    command = [sys.executable, "-m", *arguments]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                log.seek(0)
                raise RuntimeError(f"{' '.join(arguments)} did not start: {log.read().decode(errors='replace')}")
            yield Server(line.removeprefix("listening on ").strip(), process.pid)
        finally:
            process.terminate()


def service(folder: Path, backend: str, settings: Mapping[str, str] | None = None) -> AbstractContextManager[Server]:
    """Run the product on this folder, with its default settings unless others are given as XBUF_ variables."""
    variables = {"XBUF_PERSISTENCE__BACKEND": backend, "XBUF_EMBEDDING__DIMENSION": str(DIMENSION)}
    arguments = ["buffer_service.cli", "serve", "--data", str(folder), "--port", "0"]
    return listening(arguments, variables | dict(settings or {}))


def indexed_service(folder: Path, backend: str, rows: int) -> AbstractContextManager[Server]:
    """Run the product on this many rows with an index in place, to which appends are filed and which is not rebuilt."""
    building = {"XBUF_INDEX__TYPE": "ivf", "XBUF_REBUILD__EVERY_OPERATIONS": str(rows)}
    with service(folder, backend, building) as server:
        fill(server, rows)
        _wait_for_generation(server)
    appending = {
        "XBUF_BUFFER__CAPACITY": str(ROWS_MAX),
        "XBUF_INDEX__DELTA_ROWS_MAX": str(ROWS_MAX),
        "XBUF_REBUILD__MODE": "off",
    }
    return service(folder, backend, appending)


def _wait_for_generation(server: Server) -> None:
    deadline = time.monotonic() + _BUILD_TIMEOUT_S
    with BufferClient(server.url) as client:
        while not client.status().generation:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no index was built within {_BUILD_TIMEOUT_S:.0f} s")
            time.sleep(0.1)


def fill(server: Server, rows: int) -> None:
    """Append this many rows in large requests."""
    with BufferClient(server.url) as client:
        for first in range(0, rows, _ROWS_PER_REQUEST):
            some = vectors(min(_ROWS_PER_REQUEST, rows - first), seed=first)
            client.append([Experience(visual=row, confidence=0.5, metadata=metadata(0)) for row in some])
