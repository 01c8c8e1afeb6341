"""What lies under an append: the disk's fdatasync, raw LMDB, a raw log, and the filing of rows in the index.

Each function works for ``duration_s`` on the calling thread and returns operations per second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import msgspec
import numpy as np

from benchmarks.workload import DIMENSION, POOL, metadata, vectors
from buffer_service.contract import names
from buffer_service.index.delta import Delta
from buffer_service.index.engine import Engine
from buffer_service.index.generations import load
from buffer_service.index.pointer_store import FolderPointer

_PAGE = b"\1" * 4096
_MAP_BYTES = 8 << 30
_DELTA_ROWS = 4096
_AHEAD_BYTES = 32 << 20


def records() -> list[bytes]:
    """Return what a store has to keep of each experience: its vector and its metadata."""
    return [row.tobytes() + msgspec.msgpack.encode(metadata(number)) for number, row in enumerate(vectors(POOL))]


def fdatasync(folder: Path, duration_s: float, appenders: int = 1, *, ahead: bool = False) -> tuple[float, float]:
    """Append 4 KiB for each appender, then sync once for all; returns appends per second and the p99 of that in ms.

    ``ahead``, the file is full of zeroes that were synced, and what is appended replaces them.
    """
    times: list[float] = []
    with (folder / "sync-probe").open("wb", buffering=0) as file:
        if ahead:
            file.write(bytes(_AHEAD_BYTES))
            os.fsync(file.fileno())
            file.seek(0)

        def step() -> None:
            began = time.perf_counter()
            for _ in range(appenders):
                file.write(_PAGE)
            os.fdatasync(file.fileno())
            if ahead and file.tell() >= _AHEAD_BYTES:
                file.seek(0)
            times.append(time.perf_counter() - began)

        rate = _repeat(step, duration_s)
    (folder / "sync-probe").unlink()
    return appenders * rate, 1000 * float(np.percentile(times, 99))


def raw_log(folder: Path, group: int, duration_s: float) -> float:
    """Append records to a file, ``group`` of them in one write, with fdatasync; returns records per second."""
    data = b"".join(records()[number % POOL] for number in range(group))
    with (folder / "raw-log").open("ab", buffering=0) as file:

        def step() -> None:
            file.write(data)
            os.fdatasync(file.fileno())

        rate = _repeat(step, duration_s)
    (folder / "raw-log").unlink()
    return group * rate


def raw_lmdb(folder: Path, group: int, duration_s: float) -> float:
    """Put records into LMDB, ``group`` of them in one durable transaction; returns records per second."""
    path = folder / "raw-lmdb"
    values = records()
    with lmdb.open(str(path), map_size=_MAP_BYTES, subdir=False, lock=False) as environment:
        number = 0

        def step() -> None:
            nonlocal number
            with environment.begin(write=True) as transaction:
                for _ in range(group):
                    number += 1
                    transaction.put(number.to_bytes(8, "big"), values[number % POOL], append=True)

        rate = _repeat(step, duration_s)
    path.unlink()
    return group * rate


def index_filing(folder: Path, group: int, duration_s: float) -> float:
    """File rows in the delta that goes with the index of the buffer in this folder; returns rows per second."""
    pointer = FolderPointer(folder / names.POINTER_FOLDER).read()
    main = load(Engine("cpu", 1), folder / names.INDEXES_FOLDER, pointer, DIMENSION, "cosine")
    rows = np.resize(vectors(POOL), (group, DIMENSION))
    filed, filing_s = 0, 0.0
    while filing_s < duration_s:
        delta = Delta(DIMENSION, "cosine", _DELTA_ROWS, main.fresh_lists())
        delta.vectors.fill(0)
        began = time.perf_counter()
        for first in range(1, _DELTA_ROWS - group + 1, group):
            delta.append(np.arange(first, first + group, dtype=np.int64), rows)
        filing_s += time.perf_counter() - began
        filed += delta.count
    return filed / filing_s


def _repeat(step: Callable[[], None], duration_s: float) -> float:
    """Return the calls per second."""
    began = time.perf_counter()
    ends = began + duration_s
    calls = 0
    while time.perf_counter() < ends:
        step()
        calls += 1
    return calls / (time.perf_counter() - began)
