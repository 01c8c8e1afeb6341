"""Fills the peer's tables and inserts into them; runs in the peer's environment, so it imports nothing of ours.

Rows are encoded before: inserts go out as binary parameters of a prepared statement, the cheapest way there is for both
sides. One task for each connection, on uvloop. Prints one line.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import string
import sys
import time
from array import array
from itertools import cycle
from typing import Any

import asyncpg  # type: ignore[import-not-found]
import uvloop

_POOL = 512
_METADATA_BYTES = 500
_INSERTS = {
    "plain": "INSERT INTO plain (embedding, metadata) VALUES ($1, $2) RETURNING id",
    "hnsw": "INSERT INTO hnsw (embedding, metadata) VALUES ($1, $2) RETURNING id",
}


def main() -> None:
    """Run what the arguments say: SOCKETS fill ROWS DIMENSION, or SOCKETS insert TABLE CONNECTIONS DURATION WARM_UP."""
    sockets, action, *arguments = sys.argv[1:]
    if action == "fill":
        print(uvloop.run(fill(sockets, *map(int, arguments))))
    else:
        table, connections, duration_s, warm_up_s = arguments
        print(json.dumps(uvloop.run(insert(sockets, table, int(connections), float(duration_s), float(warm_up_s)))))


async def fill(sockets: str, rows: int, dimension: int) -> str:
    """Make both tables with this many rows, and the index on one of them; returns the versions."""
    connection = await asyncpg.connect(host=sockets, user="bench", database="postgres")
    await connection.execute("CREATE EXTENSION vector")
    await _codecs(connection)
    for table in _INSERTS:
        await connection.execute(
            f"CREATE TABLE {table} (id bigserial PRIMARY KEY, embedding vector({dimension}) NOT NULL, metadata jsonb)"
        )
        records = _records(rows, dimension, seed=1)
        await connection.copy_records_to_table(table, records=records, columns=["embedding", "metadata"])
    await connection.execute("CREATE INDEX ON hnsw USING hnsw (embedding vector_cosine_ops)", timeout=1800)
    await connection.execute("CHECKPOINT")
    version = await connection.fetchval("SHOW server_version")
    extension = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    await connection.close()
    return f"PostgreSQL {version.split()[0]}, pgvector {extension}"


async def insert(sockets: str, table: str, connections: int, duration_s: float, warm_up_s: float) -> dict[str, float]:
    """Insert single rows on all connections; what ends in the warm-up does not count."""
    opened = [await asyncpg.connect(host=sockets, user="bench", database="postgres") for _ in range(connections)]
    await _codecs(opened[0])
    dimension = await opened[0].fetchval(
        "SELECT atttypmod FROM pg_attribute WHERE attrelid = $1::regclass AND attname = 'embedding'", table
    )
    statements = []
    for connection in opened:
        await _codecs(connection)
        statements.append(await connection.prepare(_INSERTS[table]))
    rows = cycle(_records(_POOL, dimension, seed=time.time_ns()))
    began = time.perf_counter() + warm_up_s
    ends = began + duration_s
    latencies: list[float] = []

    async def keep_inserting(statement: Any) -> None:  # noqa: ANN401 - the driver has no types here
        while (sent := time.perf_counter()) < ends:
            await statement.fetchval(*next(rows))
            now = time.perf_counter()
            if began <= now < ends:
                latencies.append(now - sent)

    cpu_began = time.process_time()
    await asyncio.gather(*map(keep_inserting, statements))
    busy = (time.process_time() - cpu_began) / (duration_s + warm_up_s)
    for connection in opened:
        await connection.close()
    percentiles = statistics.quantiles(latencies, n=100)
    return {
        "rate": len(latencies) / duration_s,
        "p50_ms": 1000 * percentiles[49],
        "p99_ms": 1000 * percentiles[98],
        "refused": 0,
        "busy": busy,
    }


async def _codecs(connection: Any) -> None:  # noqa: ANN401 - the driver has no types here
    """Take parameters that are encoded already."""
    for name, schema in (("vector", "public"), ("jsonb", "pg_catalog")):
        await connection.set_type_codec(name, schema=schema, encoder=bytes, decoder=bytes, format="binary")


def _records(count: int, dimension: int, seed: int) -> list[tuple[bytes, bytes]]:
    """Return vectors and metadata in PostgreSQL's binary formats."""
    source = random.Random(seed)  # noqa: S311 - no secret
    head = dimension.to_bytes(2, "big") + b"\0\0"
    records = []
    for _ in range(count):
        vector = array("f", [source.gauss(0, 1) for _ in range(dimension)])
        if sys.byteorder == "little":
            vector.byteswap()
        note = "".join(source.choices(string.ascii_letters, k=_METADATA_BYTES - 11))
        records.append((head + vector.tobytes(), b"\1" + json.dumps({"note": note}, separators=(",", ":")).encode()))
    return records


if __name__ == "__main__":
    main()
