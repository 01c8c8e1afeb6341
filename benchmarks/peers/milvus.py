"""Milvus Lite's own gRPC server as a peer: Python over FAISS, HNSW; driven by Milvus's client on threads.

What it acknowledges has reached the operating system, not the disk. Runs from wheels in an environment of its own.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.peers.contestant import Contestant, UnavailableError, environment, process
from benchmarks.search_data import RECALL_FLOOR, Corpus, Ids, K
from benchmarks.workload import DIMENSION

_VERSION = "3.2.2"
_PACKAGES = (f"milvus-lite=={_VERSION}", "pymilvus==3.0.2")
_CLIENT = Path(__file__).with_name("milvus_client.py")
_GRAPH = {"M": 16, "efConstruction": 100}
_EFFORTS = (10, 12, 16, 24, 32, 48, 64, 100, 150, 250, 400, 800)
_ANSWERS = 50
_DATA = "data"
_EFFORT = "effort"


@contextmanager
def running(corpus: Corpus, folder: Path) -> Iterator[Contestant]:
    """Run Milvus Lite on a copy of a kept folder with the corpus; raises UnavailableError."""
    python = environment("milvus", _PACKAGES)
    files = corpus.written(folder.with_name("milvus-files"))
    made_of: dict[str, object] = {"milvus": _VERSION, "graph": _GRAPH}
    kept = corpus.kept("milvus", made_of, lambda place: _build(corpus, python, place, files))
    effort = int((kept / _EFFORT).read_text())
    shutil.copytree(kept / _DATA, folder)
    with _serving(python, folder) as (address, pid):
        client = [str(python), str(_CLIENT), address, str(files)]
        yield Contestant(
            label=f"Milvus Lite {_VERSION}, HNSW, ef {effort}",
            pid=pid,
            answers=lambda: _answers(python, address, files, effort),
            searching=[*client, "search", "--effort", str(effort)],
            inserting=lambda _: [*client, "insert"],
        )


@contextmanager
def _serving(python: Path, folder: Path) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def up() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    command = [str(python.with_name("milvus-lite")), "server", "--data-dir", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with process(command, folder.with_name(f"{folder.name}.log"), up) as server:
        yield f"http://127.0.0.1:{port}", server.pid


def _build(corpus: Corpus, python: Path, place: Path, files: Path) -> None:
    with _serving(python, place / _DATA) as (address, _):
        _client(python, address, files, "fill", "--graph", json.dumps(_GRAPH), "--dimension", str(DIMENSION))
        effort = _EFFORTS[-1]
        for tried in _EFFORTS:
            if corpus.recall(_answers(python, address, files, tried)) >= RECALL_FLOOR:
                effort = tried
                break
    (place / _EFFORT).write_text(str(effort))


def _answers(python: Path, address: str, files: Path, effort: int) -> Ids:
    """Return the answers to the first queries; all would take long."""
    output = _client(python, address, files, "answers", "--effort", str(effort), "--count", str(_ANSWERS))
    return np.array([rows + [-1] * (K - len(rows)) for rows in json.loads(output)])


def _client(python: Path, address: str, files: Path, *arguments: str) -> bytes:
    command = [str(python), str(_CLIENT), address, str(files), *arguments]
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"Milvus Lite failed: {error.stderr[-400:].decode(errors='replace')}") from error
