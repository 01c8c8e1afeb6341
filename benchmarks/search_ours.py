"""The product as a contestant: a service whose index holds the corpus and whose delta holds the fresh rows."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.datasets import Vectors
from benchmarks.peers.contestant import Contestant, over_http, post, whole_requests
from benchmarks.processes import ROOT, Server, service
from benchmarks.search_data import Corpus, Ids, K
from buffer_client import BufferClient, Experience
from buffer_service.contract import names
from buffer_service.contract.generation import Manifest
from buffer_service.index.generations import read_manifest
from buffer_service.index.main import EFFORT_NAMES

SEARCH_PATH = f"/v1/search?k={K}"
OCTETS = "application/octet-stream"
_MESSAGE_PACK = "application/msgpack"
_ROWS_PER_REQUEST = 1000
_BUILD_TIMEOUT_S = 3600.0
_MADE_BY = (
    "index/build.py", "index/choice.py", "index/coarse.py", "index/codes.py", "index/rebuild.py", "index/tuning.py",
    "storage/log_format.py",
)  # fmt: skip
"""Modules that decide what the kept store and its index look like."""


def kept(corpus: Corpus, settings: Mapping[str, str] | None = None) -> Path:
    """Return a data folder with the corpus, its index built, in the cache."""
    sources = b"".join((ROOT / "buffer_service" / name).read_bytes() for name in _MADE_BY)
    made_of: dict[str, object] = {"code": hashlib.sha256(sources).hexdigest(), "settings": dict(settings or {})}
    return corpus.kept("ours", made_of, lambda folder: _build(corpus, folder, dict(settings or {})))


def opened(folder: Path, corpus: Corpus, settings: Mapping[str, str] | None = None) -> AbstractContextManager[Server]:
    """Run the product on a folder, with room for twice the corpus and without rebuilds unless the settings say else."""
    room = {"XBUF_BUFFER__CAPACITY": str(2 * corpus.size + 200_000), "XBUF_REBUILD__MODE": "off"}
    return service(folder, "file", room | dict(settings or {}))


@contextmanager
def copied(corpus: Corpus, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run the product on a copy of the kept store."""
    shutil.copytree(kept(corpus), folder)
    with opened(folder, corpus, settings) as server:
        yield server


def contestant(corpus: Corpus, server: Server, folder: Path) -> Contestant:
    """Return a service that is up, with the programs that search it and append to it."""
    bodies, load = ([row.astype("<f4").tobytes() for row in rows] for rows in (corpus.queries, corpus.load))
    searches = whole_requests(server.url, SEARCH_PATH, load, OCTETS)

    def inserting(count: int) -> list[str]:
        del count  # one that comes again gets an id of its own
        appends = whole_requests(server.url, "/v1/experiences", appended(corpus), _MESSAGE_PACK)
        return over_http(server.url, appends, folder.with_name(f"{folder.name}-appends"))

    manifest = served(folder)
    name = EFFORT_NAMES.get(manifest.index_type)
    effort = f", {name} {manifest.parameters[name]}" if name else ""
    return Contestant(
        label=f"ours, {manifest.index_type}{effort}",
        pid=server.pid,
        answers=lambda: answered(post(server.url, SEARCH_PATH, bodies, OCTETS)),
        searching=over_http(server.url, searches, folder.with_name(f"{folder.name}-searches")),
        inserting=inserting,
    )


def appended(corpus: Corpus) -> Iterator[bytes]:
    """Yield bodies that append one experience each."""
    for vector in corpus.later:
        experience = {"visual": vector.astype("<f4").tobytes(), "confidence": 0.5}
        yield msgspec.msgpack.encode({"experiences": [experience]})


def answered(bodies: Iterator[bytes]) -> Ids:
    """Return the row numbers in raw answers of one query each."""
    return np.array([np.frombuffer(body, "<i8", K) for body in bodies]) - 1


def served(folder: Path) -> Manifest:
    """Return the manifest of the newest generation in a data folder."""
    indexes = folder / names.INDEXES_FOLDER
    newest = max(int(path.name.rpartition("-")[2]) for path in indexes.glob("gen-*"))
    return read_manifest(indexes, newest)[0]


def counters(server: Server, prefix: str) -> dict[str, float]:
    """Return the service's metrics whose names begin so."""
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:  # noqa: S310 - the address is that of our own process
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.partition(" ") for line in lines if line.startswith(prefix))}


def _build(corpus: Corpus, folder: Path, settings: dict[str, str]) -> None:
    building = {
        "XBUF_REBUILD__MODE": "subprocess",
        "XBUF_REBUILD__EVERY_OPERATIONS": str(corpus.size),
        "XBUF_REBUILD__THREADS": str(os.cpu_count() or 1),
        "XBUF_INDEX__DELTA_ROWS_MAX": str(corpus.size + 1),
    }
    with opened(folder / "data", corpus, building | settings) as server, BufferClient(server.url) as client:
        _append(client, corpus.vectors[: corpus.size])
        deadline = time.monotonic() + _BUILD_TIMEOUT_S
        while not client.status().generation:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no index was built within {_BUILD_TIMEOUT_S:.0f} s")
            time.sleep(0.2)
    with opened(folder / "data", corpus, settings) as server, BufferClient(server.url) as client:
        _append(client, corpus.vectors[corpus.size :])
    for part in (folder / "data").iterdir():
        part.rename(folder / part.name)
    (folder / "data").rmdir()


def _append(client: BufferClient, rows: Vectors) -> None:
    for start in range(0, len(rows), _ROWS_PER_REQUEST):
        some = rows[start : start + _ROWS_PER_REQUEST]
        client.append([Experience(visual=row, confidence=0.5) for row in some])
