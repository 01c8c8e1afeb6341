"""Fills, searches and inserts into PostgreSQL; runs in the peer's environment, so it imports nothing of ours.

Vectors are encoded before, as binary parameters of prepared statements. One task for each connection, on uvloop.
Measurements are printed as one line of JSON; samples (moment of the machine's monotonic clock, latency) go to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from array import array
from itertools import count, cycle
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-not-found]
import uvloop

_SEARCH = "SELECT id, embedding <#> $1 AS score FROM items ORDER BY embedding <#> $1 LIMIT 10"
_INSERT = "INSERT INTO items (embedding) VALUES ($1) RETURNING id"
_INSERTERS = 16
_DIMENSION = 512


class Session:
    """The server and the files with the corpus, as the arguments name them."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.latencies: list[float] = []
        self.moments: list[float] = []

    async def connect(self) -> Any:  # noqa: ANN401 - the driver has no types here
        """Open a connection that takes vectors that are encoded already."""
        connection = await asyncpg.connect(host=self.given.sockets, user="bench", database="postgres")
        await connection.set_type_codec("vector", schema="public", encoder=bytes, decoder=bytes, format="binary")
        if self.given.effort:
            await connection.execute(f"SET hnsw.ef_search = {self.given.effort}")
        return connection

    def vectors(self, name: str, dimension: int = _DIMENSION) -> list[bytes]:
        """Return the vectors of a file in PostgreSQL's binary format."""
        values = array("f")
        path = Path(self.given.files) / f"{name}.f32"
        with path.open("rb") as file:
            values.fromfile(file, path.stat().st_size // 4)
        values.byteswap()
        data, size = values.tobytes(), 4 * dimension
        head = dimension.to_bytes(2, "big") + b"\0\0"
        return [head + data[start : start + size] for start in range(0, len(data), size)]

    def note(self, began: float, ends: float, sent: float) -> float:
        """Take in what was answered now; returns the moment."""
        now = time.monotonic()
        if began <= now < ends:
            self.moments.append(now)
            self.latencies.append(now - sent)
        return now

    def measured(self, cpu_s: float) -> str:
        """Return the figures of a run as JSON, after its samples were written."""
        if self.given.samples:
            pairs = array("d", [value for pair in zip(self.moments, self.latencies, strict=True) for value in pair])
            Path(self.given.samples).write_bytes(pairs.tobytes())
        percentiles = statistics.quantiles(self.latencies, n=100)
        return json.dumps(
            {
                "rate": len(self.latencies) / self.given.seconds,
                "p50_ms": 1000 * percentiles[49],
                "p99_ms": 1000 * percentiles[98],
                "refused": 0,
                "busy": cpu_s / (self.given.seconds + self.given.warm_up),
            }
        )


async def fill(session: Session) -> str:
    """Make the table, its index of the rows, and add the fresh rows."""
    given = session.given
    connection = await asyncpg.connect(host=given.sockets, user="bench", database="postgres")
    await connection.execute("CREATE EXTENSION vector")
    await connection.close()
    connection = await session.connect()
    await connection.execute(f"CREATE TABLE items (id bigserial PRIMARY KEY, embedding vector({given.dimension}))")
    rows, fresh = (list(enumerate(session.vectors(name, given.dimension))) for name in ("rows", "fresh"))
    columns = ["id", "embedding"]
    await connection.copy_records_to_table("items", records=rows, columns=columns, timeout=1800)
    index = f"USING hnsw (embedding vector_ip_ops) WITH (m = {given.m}, ef_construction = {given.ef_construction})"
    await connection.execute(f"CREATE INDEX ON items {index}", timeout=3600)
    later = [(len(rows) + number, vector) for number, vector in fresh]
    await connection.copy_records_to_table("items", records=later, columns=columns, timeout=1800)
    await connection.execute(f"SELECT setval('items_id_seq', {len(rows) + len(fresh)}, false)")
    await connection.execute("VACUUM ANALYZE items", timeout=1800)
    await connection.execute("CHECKPOINT")
    await connection.close()
    return ""


async def version(session: Session) -> str:
    """Return the versions of server and extension."""
    connection = await session.connect()
    server = await connection.fetchval("SHOW server_version")
    extension = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    await connection.close()
    return f"PostgreSQL {server.split()[0]}, pgvector {extension}"


async def answers(session: Session) -> str:
    """Return the ids found for each query."""
    connection = await session.connect()
    statement = await connection.prepare(_SEARCH)
    found = [[row["id"] for row in await statement.fetch(query)] for query in session.vectors("queries")]
    await connection.close()
    return json.dumps(found)


async def search(session: Session) -> str:
    """Keep every connection busy with searches; what ends in the warm-up does not count."""
    given = session.given
    connections = [await session.connect() for _ in range(given.connections)]
    statements = [await connection.prepare(_SEARCH) for connection in connections]
    queries = cycle(session.vectors("load"))
    began = time.monotonic() + given.warm_up
    ends = began + given.seconds

    async def keep_searching(statement: Any) -> None:  # noqa: ANN401 - the driver has no types here
        while (sent := time.monotonic()) < ends:
            await statement.fetch(next(queries))
            session.note(began, ends, sent)

    cpu_began = time.process_time()
    await asyncio.gather(*map(keep_searching, statements))
    return session.measured(time.process_time() - cpu_began)


async def insert(session: Session) -> str:
    """Insert rows, each due by the clock; one that finds no free connection waits, and its latency grows by that."""
    given = session.given
    connections = [await session.connect() for _ in range(_INSERTERS)]
    statements = [await connection.prepare(_INSERT) for connection in connections]
    rows, numbers = cycle(session.vectors("later")), count()
    began = time.monotonic()
    ends = began + given.seconds

    async def keep_inserting(statement: Any) -> None:  # noqa: ANN401 - the driver has no types here
        while (due := began + next(numbers) / given.rate) < ends:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await statement.fetchval(next(rows))
            if session.note(began, ends, due) >= ends:
                return

    cpu_began = time.process_time()
    await asyncio.gather(*map(keep_inserting, statements))
    return session.measured(time.process_time() - cpu_began)


def main() -> None:
    """Run what the arguments say, and print what it returns."""
    actions = {action.__name__: action for action in (fill, version, answers, search, insert)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sockets")
    parser.add_argument("files")
    parser.add_argument("action", choices=actions)
    for name in ("dimension", "m", "ef-construction", "effort", "connections"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--warm-up", type=float, default=0.0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--samples")
    given = parser.parse_args()
    sys.stdout.write(f"{uvloop.run(actions[given.action](Session(given)))}\n")


if __name__ == "__main__":
    main()
