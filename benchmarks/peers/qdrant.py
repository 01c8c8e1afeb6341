"""qdrant-edge as a peer: Qdrant's engine as a library behind a thin HTTP shim of ours; its server is not in a wheel.

The shim takes and gives the same bytes as our raw search, runs under the same HTTP server and calls the engine on
threads; so what is measured is the engine and this shim, and not Qdrant's own server.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.datasets import Vectors
from benchmarks.peers.contestant import (
    Contestant,
    UnavailableError,
    environment,
    over_http,
    post,
    process,
    whole_requests,
)
from benchmarks.search_data import RECALL_FLOOR, Corpus
from benchmarks.search_ours import OCTETS, answered
from benchmarks.workload import DIMENSION

_VERSION = "0.9.0"
_PACKAGES = (f"qdrant-edge-py=={_VERSION}", "numpy", "uvicorn", "httptools", "uvloop")
_SHIM = Path(__file__).with_name("qdrant_shim.py")
_GRAPH = {"m": 16, "ef-construct": 100}
_EFFORTS = (10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64, 100, 150, 250, 400, 800)
_DATA = "data"
_EFFORT = "effort"


@contextmanager
def running(corpus: Corpus, folder: Path) -> Iterator[Contestant]:
    """Run the shim on a copy of a kept shard with the corpus; raises UnavailableError."""
    python = environment("qdrant", _PACKAGES)
    files = corpus.written(folder.with_name("qdrant-files"))
    made_of: dict[str, object] = {"qdrant-edge": _VERSION, "graph": _GRAPH}
    kept = corpus.kept("qdrant-edge", made_of, lambda place: _build(corpus, python, place, files))
    effort = int((kept / _EFFORT).read_text())
    shutil.copytree(kept / _DATA, folder)
    with _serving(python, folder) as (url, pid):
        path = f"/search?ef={effort}"
        queries = _bodies(corpus.queries)
        searches = whole_requests(url, path, _bodies(corpus.load), OCTETS)

        def inserting(count: int) -> list[str]:
            del count  # the shim numbers rows itself
            requests = whole_requests(url, "/insert", _bodies(corpus.later), OCTETS)
            return over_http(url, requests, folder.with_name("qdrant-inserts"))

        yield Contestant(
            label=f"qdrant-edge {_VERSION} behind a thin shim, HNSW, ef {effort}",
            pid=pid,
            answers=lambda: answered(post(url, path, queries, OCTETS)) + 1,
            searching=over_http(url, searches, folder.with_name("qdrant-searches")),
            inserting=inserting,
        )


@contextmanager
def _serving(python: Path, folder: Path) -> Iterator[tuple[str, int]]:
    log = folder.with_name(f"{folder.name}.log")

    def listens() -> bool:
        return "listening on " in log.read_text()

    with process([str(python), str(_SHIM), "serve", str(folder)], log, listens) as server:
        (line,) = (line for line in log.read_text().splitlines() if line.startswith("listening on "))
        yield line.removeprefix("listening on "), server.pid


def _build(corpus: Corpus, python: Path, place: Path, files: Path) -> None:
    graph = [part for name, value in _GRAPH.items() for part in (f"--{name}", str(value))]
    command = [str(python), str(_SHIM), "fill", str(place / _DATA), "--files", str(files), *graph]
    try:
        subprocess.run([*command, "--dimension", str(DIMENSION)], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"qdrant-edge could not be filled: {error.stderr[-400:].decode()}") from error
    (place / _EFFORT).write_text(str(_tuned(corpus, python, place / _DATA)))


def _tuned(corpus: Corpus, python: Path, folder: Path) -> int:
    """Return the least effort that reaches the recall floor."""
    with _serving(python, folder) as (url, _):
        for effort in _EFFORTS:
            found = answered(post(url, f"/search?ef={effort}", _bodies(corpus.queries), OCTETS)) + 1
            if corpus.recall(found) >= RECALL_FLOOR:
                return effort
    return _EFFORTS[-1]


def _bodies(vectors: Vectors) -> list[bytes]:
    return [vector.astype("<f4").tobytes() for vector in vectors]
