"""Chroma's own server as a peer: Rust, one process, HTTP and JSON, HNSW; single node, on disk.

Only the wheel with the server is installed, none of what Chroma's Python client needs. Driven by the same generator as
ours; the answer carries ids and distances, as ours does.
"""

from __future__ import annotations

import shutil
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.datasets import Vectors
from benchmarks.peers.contestant import Contestant, environment, over_http, post, process, whole_requests
from benchmarks.search_data import RECALL_FLOOR, Corpus, Ids, K

_VERSION = "1.5.9"
_JSON = "application/json"
_BASE = "/api/v2/tenants/default_tenant/databases/default_database/collections"
_ROWS_PER_REQUEST = 250
_EFFORTS = (10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64, 100, 150, 250, 400, 800)
_DATA = "data"
_EFFORT = "effort"
_GRAPH = {"max_neighbors": 16, "ef_construction": 100, "space": "ip"}
_RUN = "import sys, chromadb_rust_bindings; chromadb_rust_bindings.cli(['chroma', 'run', *sys.argv[1:]])"


@contextmanager
def running(corpus: Corpus, folder: Path) -> Iterator[Contestant]:
    """Run Chroma on a copy of a kept folder with the corpus; raises UnavailableError."""
    python = environment("chroma", (), (f"chromadb=={_VERSION}",))
    kept = corpus.kept("chroma", {"chroma": _VERSION, "graph": _GRAPH}, lambda place: _build(corpus, python, place))
    effort = int((kept / _EFFORT).read_text())
    shutil.copytree(kept / _DATA, folder)
    with _serving(python, folder) as (url, pid):
        collection = _collection(url)
        queries = [_query(query) for query in corpus.queries]
        load = map(_query, corpus.load)
        searches = whole_requests(url, f"{_BASE}/{collection}/query", load, _JSON)

        def inserting(count: int) -> list[str]:
            requests = whole_requests(url, f"{_BASE}/{collection}/add", _inserts(corpus, count), _JSON)
            return over_http(url, requests, folder.with_name("chroma-inserts"))

        yield Contestant(
            label=f"Chroma {_VERSION}, HNSW, ef {effort}",
            pid=pid,
            answers=lambda: _answers(url, collection, queries),
            searching=over_http(url, searches, folder.with_name("chroma-searches")),
            inserting=inserting,
        )


@contextmanager
def _serving(python: Path, folder: Path) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/api/v2/heartbeat"):  # noqa: S310 - our own process
                return True
        except OSError:
            return False

    command = [str(python), "-c", _RUN, "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with process(command, folder.with_name(f"{folder.name}.log"), up) as server:
        yield url, server.pid


def _build(corpus: Corpus, python: Path, place: Path) -> None:
    folder = place / _DATA
    folder.mkdir()
    with _serving(python, folder) as (url, _):
        made = {"name": "bench", "get_or_create": True, "configuration": {"hnsw": _GRAPH}}
        list(post(url, _BASE, [msgspec.json.encode(made)], _JSON))
        collection = _collection(url)
        rows = corpus.vectors
        starts = range(0, len(rows), _ROWS_PER_REQUEST)
        bodies = (_adding(start, rows[start : start + _ROWS_PER_REQUEST]) for start in starts)
        for _ in post(url, f"{_BASE}/{collection}/add", bodies, _JSON):
            pass
    (place / _EFFORT).write_text(str(_tuned(corpus, python, folder)))


def _collection(url: str) -> str:
    with urllib.request.urlopen(f"{url}{_BASE}/bench") as answer:  # noqa: S310 - our own process
        return str(msgspec.json.decode(answer.read())["id"])


def _tuned(corpus: Corpus, python: Path, folder: Path) -> int:
    """Set the least effort that reaches the recall floor, and return it. A change takes effect at the next start."""
    queries = [_query(query) for query in corpus.queries]
    for effort in _EFFORTS:
        change = msgspec.json.encode({"new_configuration": {"hnsw": {"ef_search": effort}}})
        with _serving(python, folder) as (url, _):
            list(post(url, f"{_BASE}/{_collection(url)}", [change], _JSON, method="PUT"))
        with _serving(python, folder) as (url, _):
            if corpus.recall(_answers(url, _collection(url), queries)) >= RECALL_FLOOR:
                return effort
    return _EFFORTS[-1]


def _answers(url: str, collection: str, queries: list[bytes]) -> Ids:
    found = []
    for body in post(url, f"{_BASE}/{collection}/query", queries, _JSON):
        ids: list[str] = msgspec.json.decode(body)["ids"][0]
        found.append([int(name) for name in ids] + [-1] * (K - len(ids)))
    return np.array(found)


def _inserts(corpus: Corpus, count: int) -> Iterator[bytes]:
    """Yield bodies that add one row each, under ids of their own."""
    rows = cycle([_short(row) for row in corpus.later])
    first = corpus.size + corpus.fresh
    for number, row in zip(range(first, first + count), rows, strict=False):
        yield msgspec.json.encode({"ids": [str(number)], "embeddings": [row]})


def _query(query: Vectors) -> bytes:
    return msgspec.json.encode({"query_embeddings": [_short(query)], "n_results": K, "include": ["distances"]})


def _adding(first: int, rows: Vectors) -> bytes:
    body: dict[str, Any] = {
        "ids": [str(first + number) for number in range(len(rows))],
        "embeddings": [_short(row) for row in rows],
    }
    return msgspec.json.encode(body)


def _short(row: Vectors) -> list[float]:
    """Return the numbers that have the shortest text among those that are the same float32."""
    return [float(str(value)) for value in row]
