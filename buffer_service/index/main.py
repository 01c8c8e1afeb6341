"""The main index: one generation in service, with the tombstones of rows that have left since it was built.

Immutable but for ``dead_at``, which the writer thread alone sets. A position in the FAISS index maps to an id through
an int64 array of our own: FAISS's IndexIDMap is neither safe for concurrent search nor known to GPU indexes.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np

from buffer_service.contract.generation import Manifest
from buffer_service.index.candidates import Mask, visible
from buffer_service.index.coarse import Coarse
from buffer_service.index.codes import PQ4, code_of
from buffer_service.index.delta import ALIVE
from buffer_service.index.engine import Engine, Opened
from buffer_service.index.lists import FreshLists
from buffer_service.index.metric import Ids, Positions, Vectors, scores_at

EFFORT_NAMES = {"ivf": "nprobe", "hnsw": "ef"}
"""What the effort of a search is called in the manifest, by type of index; others have none."""
REACH_NAME = "reach_percent"
"""How many hundredths farther than the nearest list, by squared distance, others may be that are searched, too."""
TUNED_K = 10
"""Neighbours for which the parameters are tuned."""

_CANDIDATES_MIN = 64
"""With 4-bit codes no fewer are ranked, however small k is: they do not tell near neighbours apart."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a request asks for: inverted lists to search, or candidates kept on the way through a graph."""

    probes: int | None = None
    ef: int | None = None


TUNED = Effort()
"""The effort that was found at build time to reach the recall floor."""


class MainIndex:
    """A loaded generation. ``ids`` is ascending and parallel to the positions in the FAISS index, as is ``vectors``.

    ``coarse`` is there where the index has inverted lists. ``vectors`` are the exact ones, mapped from disk.
    """

    def __init__(
        self, engine: Engine, index: Opened, ids: Ids, vectors: Vectors, coarse: Coarse | None, manifest: Manifest
    ) -> None:
        self._engine = engine
        self._index = index
        self.ids = ids
        self.vectors = vectors
        self.coarse = coarse
        self.manifest = manifest
        self._four_bits = code_of(index.cpu) == PQ4
        self._reach_percent = manifest.parameters.get(REACH_NAME)
        self._effort_name = EFFORT_NAMES.get(manifest.index_type, "")
        self.dead_at: Ids = np.full(len(ids), ALIVE, np.int64)
        self.tombstones = 0
        weakref.finalize(self, engine.release, index).atexit = False  # the last reader may be on any thread

    @property
    def effort_max(self) -> int:
        """The largest effort that makes a difference; see ``View.search``."""
        if self.coarse is not None:
            return self.coarse.lists
        return max(1, len(self.ids)) if self._effort_name else 1

    def effort(self, requested: Effort) -> int:
        """Return the effort to search with: the one asked for within its limit, else the one found at build time."""
        wanted = requested.probes if self.coarse is not None else requested.ef
        return min(wanted or self.manifest.parameters.get(self._effort_name, 1), self.effort_max)

    def reach_percent(self, requested: Effort, k: int) -> int | None:
        """Return the reach to search with; None, for all lists, where it was not judged by such a search."""
        return self._reach_percent if requested.probes is None and k <= TUNED_K else None

    def candidates(self, k: int) -> int:
        """Return how many rows have to be found by their codes, for the exact vectors to rank."""
        found = self.manifest.parameters.get("refine", 1) * k
        return max(found, _CANDIDATES_MIN) if self._four_bits else found

    def lists(self, queries: Vectors, effort: int, reach_percent: int | None = None) -> Positions | None:
        """Return the (n, m) inverted lists to search, m at most the effort, None where there are none.

        Which ones are the farthest is told roughly where rows are compared in less time than their lists are found.
        With a reach, -1 stands for those that are farther; see ``Coarse.nearest``.
        """
        if self.coarse is None:
            return None
        reach = None if reach_percent is None else reach_percent / 100
        return self.coarse.nearest(queries, effort, roughly=self._four_bits, reach=reach)

    def fresh_lists(self) -> FreshLists | None:
        """Return empty lists for the delta that is to be searched with this index, None where it has no lists."""
        return FreshLists(self._index.cpu, self.coarse) if self.coarse else None

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

    def search(
        self,
        queries: Vectors,
        k: int,
        sequence: int,
        effort: int,
        lists: Positions | None,
        only: Mask | None = None,
    ) -> Positions:
        """Return (n, m) positions of near rows, -1 where one is dead or missing or, by position, not in ``only``.

        ``lists`` are those of ``self.lists``. The rows are found by their codes; ``scores`` says how near they are.
        """
        rows = len(self.ids)
        seen = rows - self.tombstones if only is None else int(np.count_nonzero(only))
        if not seen:
            return np.full((len(queries), 1), -1, np.int64)

        def hidden(positions: Positions) -> Mask | None:
            if only is not None:
                return ~only[positions]
            return self.dead_at[positions] <= sequence if self.tombstones else None

        return visible(
            lambda fetch: self._engine.search(self._index, queries, fetch, effort, lists),
            hidden,
            min(rows if only is None else seen, self.candidates(k)),
            rows,
            seen / rows,
        )

    def seen(self, sequence: int) -> Mask:
        """Return which rows, by position, are live at this sequence."""
        return self.dead_at > sequence

    def ids_at(self, positions: Positions) -> Ids:
        """Return the ids of rows by position, any id where there is none."""
        return self.ids[positions] if len(self.ids) else positions

    def scores(self, queries: Vectors, positions: Positions) -> Vectors:
        """Return the exact scores of rows by position, -inf where there is none."""
        return scores_at(self.manifest.metric, queries, self.vectors, positions)

    def promote(self) -> None:
        """Copy the index to the GPU where that is in use and there was no room for it before."""
        self._engine.promote(self._index)
