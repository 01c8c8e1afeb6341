"""SQLite as a peer: write-ahead log, every commit synced, single-row transactions, no index on the vector.

One connection for each of N threads; a lock hands the one writer's place on, which is faster than SQLite's own waiting
(it sleeps). Run: python -m benchmarks.peers.sqlite FOLDER CONNECTIONS DURATION_S WARM_UP_S; prints one JSON object.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from itertools import cycle
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.load import Measured
from benchmarks.workload import POOL, metadata, vectors

_TABLE = "CREATE TABLE experiences (id INTEGER PRIMARY KEY, embedding BLOB NOT NULL, metadata TEXT NOT NULL)"
_INSERT = "INSERT INTO experiences (embedding, metadata) VALUES (?, ?)"


def insert(folder: Path, connections: int, duration_s: float, warm_up_s: float) -> Measured:
    """Insert single rows from a process of its own."""
    arguments = [str(folder), str(connections), str(duration_s), str(warm_up_s)]
    command = [sys.executable, "-m", "benchmarks.peers.sqlite", *arguments]
    return msgspec.json.decode(subprocess.run(command, check=True, capture_output=True).stdout, type=Measured)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _drive(path: Path, connections: int, duration_s: float, warm_up_s: float) -> Measured:
    first = _open(path)
    if not first.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        first.execute(_TABLE)
    rows = cycle([(row.tobytes(), json.dumps(metadata(number))) for number, row in enumerate(vectors(POOL))])
    turn = threading.Lock()
    began = time.perf_counter() + warm_up_s
    ends = began + duration_s
    latencies: list[float] = []

    def keep_inserting(connection: sqlite3.Connection) -> None:
        while (asked := time.perf_counter()) < ends:
            with turn:
                connection.execute(_INSERT, next(rows))
            now = time.perf_counter()
            if began <= now < ends:
                latencies.append(now - asked)

    cpu_began = time.process_time()
    threads = [threading.Thread(target=keep_inserting, args=(_open(path),)) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    busy = (time.process_time() - cpu_began) / (duration_s + warm_up_s)
    p50_ms, p99_ms = 1000 * np.percentile(latencies, [50, 99])
    return Measured(len(latencies) / duration_s, float(p50_ms), float(p99_ms), 0, busy)


if __name__ == "__main__":
    folder, connections, duration_s, warm_up_s = sys.argv[1:]
    measured = _drive(Path(folder) / "peer.sqlite", int(connections), float(duration_s), float(warm_up_s))
    sys.stdout.buffer.write(msgspec.json.encode(measured) + b"\n")
