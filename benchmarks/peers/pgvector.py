"""PostgreSQL with pgvector as a peer in searches: HNSW under the inner product, whose rows are of unit length.

The table is filled and indexed before, then takes the fresh rows. Searches are prepared statements with binary
parameters over a unix socket, the cheapest way there is for both sides; inserts are transactions of their own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.peers.contestant import Contestant, UnavailableError
from benchmarks.peers.postgres import run_client, serving
from benchmarks.search_data import RECALL_FLOOR, Corpus, Ids, K
from benchmarks.workload import DIMENSION

_CLIENT = Path(__file__).with_name("pgvector_client.py")
_GRAPH = {"m": 16, "ef_construction": 64}
_EFFORTS = (10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64, 100, 150, 250, 400, 800)


@contextmanager
def running(corpus: Corpus, folder: Path) -> Iterator[Contestant]:
    """Run PostgreSQL on a copy of a kept cluster with the corpus; raises UnavailableError."""
    files = corpus.written(folder.with_name("pgvector-files"))
    building = folder.with_name("pgvector-building")
    kept = corpus.kept("pgvector", {"graph": _GRAPH}, lambda place: _build(place, building, files))
    with serving(folder, kept / "data") as (python, sockets, pid):
        effort = _EFFORTS[-1]
        for tried in _EFFORTS:
            if corpus.recall(_answers(python, sockets, files, tried)) >= RECALL_FLOOR:
                effort = tried
                break
        client = [str(python), str(_CLIENT), str(sockets), str(files)]
        yield Contestant(
            label=f"{run_client(python, _CLIENT, [*client[2:], 'version']).decode().strip()}, HNSW, ef {effort}",
            pid=pid,
            answers=lambda: _answers(python, sockets, files, effort),
            searching=[*client, "search", "--effort", str(effort)],
            inserting=lambda _: [*client, "insert"],
        )


def _build(place: Path, home: Path, files: Path) -> None:
    graph = [part for name, value in _GRAPH.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    with serving(home) as (python, sockets, _):
        try:
            run_client(python, _CLIENT, [str(sockets), str(files), "fill", "--dimension", str(DIMENSION), *graph])
        except subprocess.CalledProcessError as error:
            raise UnavailableError(f"PostgreSQL could not be filled: {error.stderr[-500:].decode()}") from error
    shutil.move(home / "data", place / "data")
    shutil.rmtree(home)


def _answers(python: Path, sockets: Path, files: Path, effort: int) -> Ids:
    output = run_client(python, _CLIENT, [str(sockets), str(files), "answers", "--effort", str(effort)])
    return np.array([rows + [-1] * (K - len(rows)) for rows in json.loads(output)])
