"""The main index: one generation in service, with the tombstones of rows that have left since it was built.

Immutable but for ``dead_at``, which the writer thread alone sets. A position in the FAISS index maps to an id through
an int64 array of our own: FAISS's IndexIDMap is neither safe for concurrent search nor known to GPU indexes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from buffer_service.contract.generation import Manifest
from buffer_service.index.delta import ALIVE
from buffer_service.index.engine import Engine
from buffer_service.index.metric import Ids, Vectors, scores_from_faiss

_OVERFETCH_MIN = 8


class MainIndex:
    """A loaded generation. ``ids`` is ascending and parallel to the positions in the FAISS index."""

    def __init__(self, engine: Engine, index: Any, ids: Ids, manifest: Manifest) -> None:  # noqa: ANN401
        self._engine = engine
        self._index = index
        self.ids = ids
        self.manifest = manifest
        self.dead_at: Ids = np.full(len(ids), ALIVE, np.int64)
        self.tombstones = 0

    def mark_dead(self, experience: int, sequence: int) -> bool:
        """Hide a row from every view of this sequence or later; False when it is not in this generation."""
        position = int(np.searchsorted(self.ids, experience))
        if position == len(self.ids) or self.ids[position] != experience:
            return False
        if self.dead_at[position] == ALIVE:
            self.tombstones += 1
        self.dead_at[position] = min(sequence, int(self.dead_at[position]))
        return True

    def mark_all_dead_but(self, live: Ids, sequence: int) -> None:
        """Hide every row that is not among the ascending live ids."""
        places = np.searchsorted(live, self.ids)
        places[places == len(live)] = 0
        found = live[places] == self.ids if len(live) else np.zeros(len(self.ids), bool)
        self.dead_at[~found] = sequence
        self.tombstones = int(np.count_nonzero(self.dead_at != ALIVE))

    def search(self, queries: Vectors, k: int, sequence: int, n_probes: int | None = None) -> tuple[Ids, Vectors]:
        """Return (n, m) ids and scores, m >= k where that many rows are live; dead and missing ones have score -inf.

        Tombstones are passed over by fetching more than k, twice as many each time, until k live ones are found.
        """
        rows = len(self.ids)
        wanted = min(rows, k)
        fetch = min(rows, k + _OVERFETCH_MIN + 2 * k * self.tombstones // max(1, rows)) if self.tombstones else wanted
        probes = n_probes or self.manifest.parameters.get("nprobe")
        while True:
            distances, positions = self._engine.search(self._index, queries, fetch, probes)
            scores = scores_from_faiss(self.manifest.metric, distances)
            hidden = (positions < 0) | (self.dead_at[positions] <= sequence)
            live = fetch - hidden.sum(axis=1)
            exhausted = positions[:, -1] < 0
            if fetch >= rows or bool(np.all((live >= wanted) | exhausted)):
                return np.where(hidden, -1, self.ids[positions]), np.where(hidden, -np.inf, scores)
            fetch = min(rows, 2 * fetch)

    def release(self) -> None:
        """Free what the device holds; nobody may search afterwards."""
        self._engine.release(self._index)
