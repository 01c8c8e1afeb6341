"""What is searched in the benchmarks of search: the rows, the fresh rows, the queries and the true neighbours.

Row n of the corpus is row n for every contestant; the fresh rows follow the others. Stores and indexes are built once
and kept in the cache folder under a digest of what they are made from; a run works on a copy. Pure but for the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.datasets import Vectors, clustered, unclustered

Ids = npt.NDArray[np.int64]

K = 10
RECALL_FLOOR = 0.95
DATA = {"clustered": clustered, "hard": unclustered}
_QUERIES = 500
_LOAD = 4096
_LATER = 4096
_TOLERANCE = 1e-5
_VERSION = 1


@dataclass(frozen=True)
class Corpus:
    """``size`` indexed rows and ``fresh`` later ones, unit vectors of float32 under the inner product."""

    data: str
    size: int
    fresh: int

    @cached_property
    def vectors(self) -> Vectors:
        """All rows, the fresh ones last."""
        make = DATA[self.data]
        return np.concatenate([make(self.size, 0), make(self.fresh, 1)])

    @cached_property
    def later(self) -> Vectors:
        """Rows to insert while a benchmark runs; beyond them they come again, as rows of their own."""
        return DATA[self.data](_LATER, 3)

    @cached_property
    def probes(self) -> Vectors:
        """More such rows, none of them like any of the others."""
        return DATA[self.data](_LATER, 4)

    @cached_property
    def load(self) -> Vectors:
        """Queries of the same distribution that are not among the rows; so many that most rows are found by one."""
        return DATA[self.data](_LOAD, 2)

    @property
    def queries(self) -> Vectors:
        """The first of the load, whose true neighbours are known."""
        return self.load[:_QUERIES]

    @cached_property
    def _least(self) -> Vectors:
        """Return the score of the true tenth neighbour of each query."""
        scores = self.queries @ self.vectors.T
        return np.partition(scores, -K, axis=1)[:, -K] - np.float32(_TOLERANCE)

    def recall(self, answers: Ids) -> float:
        """Return the mean recall@10 of the row numbers answered to the first queries; -1 stands for none."""
        shares = []
        for query, rows, least in zip(self.queries, answers, self._least, strict=False):
            given = np.unique(rows[:K][rows[:K] >= 0])
            shares.append(np.count_nonzero(self.vectors[given] @ query >= least) / K)
        return float(np.mean(shares))

    def written(self, folder: Path) -> Path:
        """Write each part as NAME.f32 (raw little-endian) for programs of other environments."""
        folder.mkdir(exist_ok=True)
        parts = {"rows": self.vectors[: self.size], "fresh": self.vectors[self.size :]}
        parts |= {"later": self.later, "queries": self.queries, "load": self.load}
        for name, part in parts.items():
            part.astype("<f4").tofile(folder / f"{name}.f32")
        return folder

    def kept(self, name: str, made_of: dict[str, object], build: Callable[[Path], None]) -> Path:
        """Return the folder in the cache that ``build`` has filled, once for the corpus and for ``made_of``.

        An interrupted build leaves nothing that would be taken for a whole one.
        """
        made = {"version": _VERSION, "data": self.data, "size": self.size, "fresh": self.fresh, **made_of}
        digest = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:12]
        place = cache() / "bench-search" / f"{name}-{self.data}-{self.size}-{digest}"
        if not place.exists():
            building = place.with_name(f".{place.name}-{os.getpid()}")
            building.mkdir(parents=True)
            try:
                build(building)
                building.rename(place)
            finally:
                shutil.rmtree(building, ignore_errors=True)
        return place


def cache() -> Path:
    """Return the folder in which downloads and built stores are kept."""
    return Path(os.environ.get("XBUF_CACHE") or Path.home() / ".cache" / "experience-buffer")
