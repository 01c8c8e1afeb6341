"""The delta: rows that came after the watermark of the main index, searched exactly.

Appended to by the writer thread alone, in order of id. Readers hold a row count and see only that prefix, which never
changes but for ``dead_at``; so neither side waits for the other. The array is reserved at once, and the system lends
memory only for the part that was written.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from buffer_service.index.metric import Ids, Vectors, exact_scores

ALIVE = np.iinfo(np.int64).max
"""``dead_at`` of a row that is live."""


class Delta:
    """Rows above a watermark."""

    def __init__(self, dimension: int, metric: str, rows_max: int) -> None:
        self.metric = metric
        self.ids: Ids = np.zeros(rows_max, np.int64)
        self.dead_at: Ids = np.full(rows_max, ALIVE, np.int64)
        self.vectors: Vectors = np.empty((rows_max, dimension), np.float32)
        self.count = 0

    @property
    def rows_max(self) -> int:
        """Number of rows that fit."""
        return len(self.ids)

    def append(self, ids: Ids, vectors: Vectors) -> None:
        """Add rows; ids ascending and higher than all before. Raises ValueError when they do not fit."""
        first, last = self.count, self.count + len(ids)
        if last > self.rows_max:
            raise ValueError(f"{last} rows do not fit into a delta of {self.rows_max}")
        self.ids[first:last] = ids
        self.vectors[first:last] = vectors
        self.count = last

    def mark_dead(self, experience: int, sequence: int) -> bool:
        """Hide a row from every view of this sequence or later; False when it is not in the delta."""
        position = int(np.searchsorted(self.ids[: self.count], experience))
        if position == self.count or self.ids[position] != experience:
            return False
        self.dead_at[position] = sequence
        return True

    def search(self, queries: Vectors, rows: int, sequence: int) -> tuple[Ids, Vectors]:
        """Return the (n, m) ids and scores of the rows that were live at the sequence; dead ones have score -inf."""
        scores = exact_scores(self.metric, queries, self.vectors[:rows])
        scores[:, self.dead_at[:rows] <= sequence] = -np.inf
        return np.broadcast_to(self.ids[:rows], scores.shape), scores

    def after(self, last_id: int, rows_max: int) -> Delta:
        """Return a new delta with the live rows whose id is higher than ``last_id`` and room for ``rows_max``."""
        start = int(np.searchsorted(self.ids[: self.count], last_id, side="right"))
        kept: npt.NDArray[np.intp] = start + np.flatnonzero(self.dead_at[start : self.count] == ALIVE)
        delta = Delta(self.vectors.shape[1], self.metric, max(rows_max, len(kept)))
        delta.append(self.ids[kept], self.vectors[kept])
        return delta
