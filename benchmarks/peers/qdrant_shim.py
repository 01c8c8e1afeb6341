"""A thin HTTP server over qdrant-edge; runs in the peer's environment, so it imports nothing of ours.

POST /search?ef=N takes one raw vector and answers ten int64 ids, -1 where there are fewer, and ten float32 scores.
POST /insert takes one raw vector, numbers it, applies it and flushes it before it answers: durable, as ours is. Calls
run on as many threads as there are cores; the engine is optimised as soon as enough rows have come, as a server would.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant  # type: ignore[import-not-found]
import uvicorn
import uvloop

_K = 10
_DIMENSION = 512
_ROWS_PER_CALL = 1000
_OPTIMIZED_AFTER = 5000


class Shim:
    """The ASGI application."""

    def __init__(self, folder: str) -> None:
        self._shard = qdrant.EdgeShard.load(folder)
        self._next = self._shard.count(qdrant.CountRequest(exact=True))
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._inserted = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:  # noqa: ANN401
        """Answer one request."""
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        vector = np.frombuffer(b"".join(parts), "<f4").tolist()
        call = self._insert if scope["path"] == "/insert" else self._search
        body = await asyncio.get_running_loop().run_in_executor(self._threads, call, vector, scope["query_string"])
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _search(self, vector: list[float], query: bytes) -> bytes:
        parameters = qdrant.SearchParams(hnsw_ef=int(query.partition(b"=")[2] or 100))
        found = self._shard.search(
            qdrant.SearchRequest(query=qdrant.Query.Nearest(vector), limit=_K, params=parameters)
        )
        ids = [int(point.id) for point in found] + [-1] * (_K - len(found))
        scores = [point.score for point in found] + [0.0] * (_K - len(found))
        return np.array(ids, "<i8").tobytes() + np.array(scores, "<f4").tobytes()

    def _insert(self, vector: list[float], _: bytes) -> bytes:
        with self._lock:
            number = self._next
            self._next += 1
            self._inserted += 1
            due = self._inserted % _OPTIMIZED_AFTER == 0
        self._shard.update(qdrant.UpdateOperation.upsert_points([qdrant.Point(number, vector)]))
        self._shard.flush()
        if due:
            threading.Thread(target=self._shard.optimize).start()
        return str(number).encode()


def fill(given: argparse.Namespace) -> None:
    """Make a shard with the rows, indexed, and add the fresh rows."""
    graph = qdrant.HnswIndexConfig(m=given.m, ef_construct=given.ef_construct, full_scan_threshold=1000)
    vectors = qdrant.EdgeVectorParams(size=given.dimension, distance=qdrant.Distance.Dot, hnsw_config=graph)
    optimizers = qdrant.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1000)
    Path(given.folder).mkdir(parents=True)
    shard = qdrant.EdgeShard.create(given.folder, qdrant.EdgeConfig(vectors=vectors, optimizers=optimizers))
    first = 0
    for name in ("rows", "fresh"):
        rows = np.fromfile(Path(given.files) / f"{name}.f32", "<f4").reshape(-1, given.dimension)
        for start in range(0, len(rows), _ROWS_PER_CALL):
            some = rows[start : start + _ROWS_PER_CALL]
            points = [qdrant.Point(first + start + number, row.tolist()) for number, row in enumerate(some)]
            shard.update(qdrant.UpdateOperation.upsert_points(points))
        first += len(rows)
        if name == "rows":
            shard.optimize()
    shard.flush()
    shard.close()


async def serve(folder: str) -> None:
    """Serve a shard on a free port until a signal comes."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        Shim(folder), loop="none", http="httptools", lifespan="off", access_log=False, log_config=None
    )
    sys.stdout.write(f"listening on http://127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    await uvicorn.Server(config).serve([listening])


def main() -> None:
    """Fill a shard or serve it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("fill", "serve"))
    parser.add_argument("folder")
    parser.add_argument("--files")
    for name in ("dimension", "m", "ef-construct"):
        parser.add_argument(f"--{name}", type=int)
    given = parser.parse_args()
    if given.action == "fill":
        fill(given)
    else:
        uvloop.run(serve(given.folder))


if __name__ == "__main__":
    main()
