"""Fills, searches and inserts into Milvus Lite; runs in the peer's environment, so it imports nothing of ours.

One thread and one client for each connection. Measurements are printed as one line of JSON; samples (moment of the
machine's monotonic clock, latency) go to a file.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient  # type: ignore[import-not-found]

_NAME = "items"
_K = 10
_DIMENSION = 512
_ROWS_PER_REQUEST = 1000
_INSERTERS = 8


class Session:
    """The server and the files with the corpus, as the arguments name them."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self._samples: list[tuple[float, float]] = []

    def client(self) -> Any:  # noqa: ANN401 - the driver has no types here
        """Open a client of its own."""
        return MilvusClient(uri=self.given.address)

    def vectors(self, name: str) -> Any:  # noqa: ANN401 - as above
        """Return the (n, dimension) vectors of a file."""
        return np.fromfile(Path(self.given.files) / f"{name}.f32", "<f4").reshape(-1, _DIMENSION)

    def search(self, client: Any, query: Any) -> list[int]:  # noqa: ANN401 - as above
        """Search one vector."""
        parameters = {"metric_type": "IP", "params": {"ef": self.given.effort}}
        hits = client.search(_NAME, data=[query], limit=_K, anns_field="embedding", search_params=parameters)[0]
        return [int(hit["id"]) for hit in hits]

    def drive(self, threads: int, step: Any, rate: float | None) -> str:  # noqa: ANN401 - as above
        """Call ``step(client, number)`` on threads, closed loop or at a rate; returns the figures as JSON."""
        given, numbers = self.given, count()
        clients = [self.client() for _ in range(threads)]
        began = time.monotonic() + given.warm_up
        ends = began + given.seconds

        def keep_going(client: Any) -> None:  # noqa: ANN401 - as above
            while True:
                number = next(numbers)
                due = time.monotonic() if rate is None else began + number / rate
                if due >= ends:
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                step(client, number)
                now = time.monotonic()
                if began <= now < ends:
                    self._samples.append((now, now - due))
                if now >= ends:
                    return

        cpu_began = time.process_time()
        workers = [threading.Thread(target=keep_going, args=(client,)) for client in clients]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        busy = (time.process_time() - cpu_began) / (given.seconds + given.warm_up)
        return self._figures(busy)

    def _figures(self, busy: float) -> str:
        """Return the figures of a run as JSON, after its samples were written."""
        given, samples = self.given, np.array(self._samples).reshape(-1, 2)
        if given.samples:
            samples.astype("<f8").tofile(given.samples)
        p50_ms, p99_ms = 1000 * np.percentile(samples[:, 1] if len(samples) else [given.seconds], [50, 99])
        rate = len(samples) / given.seconds
        return json.dumps({"rate": rate, "p50_ms": p50_ms, "p99_ms": p99_ms, "refused": 0, "busy": busy})


def fill(session: Session) -> str:
    """Make the collection, its index of the rows, and add the fresh rows."""
    client = session.client()
    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=session.given.dimension)
    client.create_collection(_NAME, schema=schema)
    rows = session.vectors("rows")
    _insert(client, rows, 0)
    client.flush(_NAME)
    index = client.prepare_index_params()
    graph = json.loads(session.given.graph)
    index.add_index("embedding", index_type="HNSW", metric_type="IP", params=graph)
    client.create_index(_NAME, index)
    client.load_collection(_NAME)
    _insert(client, session.vectors("fresh"), len(rows))
    return ""


def answers(session: Session) -> str:
    """Return the ids found for the first queries."""
    client = session.client()
    client.load_collection(_NAME)
    return json.dumps([session.search(client, query) for query in session.vectors("queries")[: session.given.count]])


def search(session: Session) -> str:
    """Keep every connection busy with searches; what ends in the warm-up does not count."""
    queries = session.vectors("load")

    def step(client: Any, number: int) -> None:  # noqa: ANN401 - the driver has no types here
        session.search(client, queries[number % len(queries)])

    return session.drive(session.given.connections, step, None)


def insert(session: Session) -> str:
    """Insert rows, each due by the clock."""
    rows = session.vectors("later")
    first = len(session.vectors("rows")) + len(session.vectors("fresh"))

    def step(client: Any, number: int) -> None:  # noqa: ANN401 - the driver has no types here
        client.insert(_NAME, [{"id": first + number, "embedding": rows[number % len(rows)]}])

    return session.drive(_INSERTERS, step, session.given.rate)


def _insert(client: Any, rows: Any, first: int) -> None:  # noqa: ANN401 - as above
    for start in range(0, len(rows), _ROWS_PER_REQUEST):
        some = rows[start : start + _ROWS_PER_REQUEST]
        entities = [{"id": first + start + number, "embedding": row} for number, row in enumerate(some)]
        client.insert(_NAME, entities)


def main() -> None:
    """Run what the arguments say, and print what it returns."""
    actions = {action.__name__: action for action in (fill, answers, search, insert)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("files")
    parser.add_argument("action", choices=actions)
    for name in ("dimension", "effort", "connections", "count"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--graph")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--warm-up", type=float, default=0.0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--samples")
    given = parser.parse_args()
    sys.stdout.write(f"{actions[given.action](Session(given))}\n")


if __name__ == "__main__":
    main()
