"""A view: everything a search needs, as it was at one sequence number.

The writer publishes a view with one assignment; a reader takes it once per request. So an answer is always from one
generation, and reads and writes never wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from buffer_service.contract.pointer import Pointer
from buffer_service.index.delta import Delta
from buffer_service.index.main import MainIndex
from buffer_service.index.metric import Ids, Vectors, nearest


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to n queries: (n, k) int64 ids, -1 where there are fewer, and (n, k) float32 scores, best first."""

    ids: Ids
    scores: Vectors
    sequence: int
    generation: int


@dataclass(frozen=True, slots=True)
class View:
    """Main, delta and tombstones at one sequence number."""

    sequence: int
    pointer: Pointer
    main: MainIndex | None
    delta: Delta
    delta_rows: int

    def search(self, queries: Vectors, k: int, n_probes: int | None = None) -> Found:
        """Return the k nearest live rows of each of the (n, dimension) float32 queries."""
        ids, scores = self.delta.search(queries, self.delta_rows, self.sequence)
        if self.main is not None and len(self.main.ids):
            main_ids, main_scores = self.main.search(queries, k, self.sequence, n_probes)
            ids = np.concatenate([main_ids, ids], axis=1)
            scores = np.concatenate([main_scores, scores], axis=1)
        return self._best(ids, scores, k)

    def _best(self, ids: Ids, scores: Vectors, k: int) -> Found:
        best = nearest(scores, k) if scores.shape[1] else np.zeros((len(scores), 0), np.int64)
        chosen = np.take_along_axis(ids, best, axis=1)
        values = np.take_along_axis(scores, best, axis=1)
        chosen = np.where(np.isneginf(values), -1, chosen)
        missing = ((0, 0), (0, k - best.shape[1]))
        return Found(
            ids=np.pad(chosen, missing, constant_values=-1).astype(np.int64),
            scores=np.pad(values, missing, constant_values=-np.inf).astype(np.float32),
            sequence=self.sequence,
            generation=self.pointer.generation,
        )
