"""Disk use under endless churn: what is replaced over and over takes a bounded multiple of what is live.

The bounds are those that docs/ARCHITECTURE.md states. The file store's is in test_file_store.py.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from buffer_service.index.export import Exporter, ExportPoint
from buffer_service.index.metric import Ids, Vectors
from buffer_service.storage.lmdb_check import DATA_FILE
from buffer_service.storage.lmdb_store import LmdbStore
from buffer_service.storage.operations import Append, Evict, Operation, Remove, SetPriorities
from tests.helpers.storage_model import SHAPE, group_of
from tests.helpers.storage_open import opened

PAGE_BYTES = 4096
CAPACITY = 400
TURNOVERS = 8
ROWS_PER_GROUP = 25
PAYLOAD_BYTES = 900
EXPORT_BYTES_BESIDE = 20_000
"""For manifests, heads of files, and lists of live ids."""
LMDB_BYTES_BESIDE = 64 << 10
"""For its own pages, and those that the commits in flight hold on to."""
ALLOCATED_AHEAD_BYTES = 6 << 20
"""Disk space that the lmdb store takes before it is needed."""
GROWTH_MAX = 1.1
"""Disk use of the second half of the turnovers, against that of the first."""


def turn(random: Random, sequence: int, first: int, live: list[int], *, keep_oldest: bool) -> list[Operation]:
    """Return a group that replaces rows: the oldest, or young ones, and updates some of the others."""
    operations: list[Operation] = []
    for id_ in range(first, first + ROWS_PER_GROUP):
        if len(live) >= CAPACITY:
            gone = live.pop(random.randrange(CAPACITY // 2, CAPACITY) if keep_oldest else 0)
            operations.append((Remove if keep_oldest else Evict)(sequence + len(operations) + 1, gone))
        vector = np.full(SHAPE.dimension, 0.5, "<f4").tobytes()
        payload = random.randbytes(PAYLOAD_BYTES)
        operations.append(Append(sequence + len(operations) + 1, id_, 1.0, 0.5, None, b"", payload, vector))
        live.append(id_)
    updates = [(id_, random.random()) for id_ in random.sample(live, ROWS_PER_GROUP)]
    operations.append(SetPriorities(sequence + len(operations) + 1, updates))
    return operations


@pytest.mark.parametrize(("keep_oldest", "factor"), [(False, 2), (True, 4)], ids=["oldest-leaves", "oldest-stays"])
def test_lmdb_stays_within_a_factor_of_what_is_live(*, keep_oldest: bool, factor: int, tmp_path: Path) -> None:
    """Freed pages are used again, and LMDB keeps pages a quarter full: the file stops growing, whichever rows leave."""
    random, live, sizes = Random(0), list[int](), list[int]()
    with opened("lmdb", tmp_path) as store:
        assert isinstance(store, LmdbStore)
        for first in range(1, TURNOVERS * CAPACITY, ROWS_PER_GROUP):
            group = group_of(store, turn(random, store.table.header.sequence, first, live, keep_oldest=keep_oldest))
            store.commit(group)
            group.publish()
            sizes.append((store._environment.info()["last_pgno"] + 1) * PAGE_BYTES)
    live_bytes = CAPACITY * (PAYLOAD_BYTES + 4 * SHAPE.dimension)
    assert max(sizes) <= factor * live_bytes + LMDB_BYTES_BESIDE
    assert (tmp_path / DATA_FILE).stat().st_size <= max(sizes) + ALLOCATED_AHEAD_BYTES
    assert max(sizes[len(sizes) // 2 :]) <= GROWTH_MAX * max(sizes[: len(sizes) // 2])


@pytest.mark.parametrize("rows_per_export", [15, 80, 399])
def test_an_export_takes_at_most_three_times_what_is_live(rows_per_export: int, tmp_path: Path) -> None:
    """However much or little is replaced between two exports, at every moment, the one before included."""
    dimension = 256
    exporter = Exporter(tmp_path, dimension, "cosine")
    vectors = np.random.default_rng(0).standard_normal((CAPACITY, dimension), np.float32)
    sizes: list[int] = []

    def note() -> None:
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))

    def read(ids: Ids) -> tuple[Ids, Vectors]:
        note()
        return ids, vectors[ids % CAPACITY]

    for last in range(CAPACITY, (TURNOVERS + 1) * CAPACITY, rows_per_export):
        live = np.arange(last - CAPACITY + 1, last + 1)
        exporter.write(ExportPoint(last, last, live), read)
        note()
    live_bytes = CAPACITY * (4 * dimension + 8)
    assert max(sizes) <= 3 * live_bytes + EXPORT_BYTES_BESIDE
