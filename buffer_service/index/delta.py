"""The delta: rows that came after the watermark of the main index.

Appended to by the writer thread alone, in order of id. Readers hold a row count and see only that prefix, which never
changes but for ``dead_at``; so neither side waits for the other. Rows are filed in inverted lists where the main index
has such, and scanned exactly where not. The arrays are reserved at once, and the system lends memory only for the part
that was written.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from buffer_service.index.candidates import Mask, visible
from buffer_service.index.lists import FreshLists
from buffer_service.index.metric import Ids, Positions, Vectors, exact_positions, scores_at

ALIVE = np.iinfo(np.int64).max
"""``dead_at`` of a row that is live."""
_BLOCK_ROWS = 256
"""Rows that are filed in one go: a few milliseconds."""


class Delta:
    """Rows above a watermark. ``lists`` belong to the main index that it is searched with."""

    def __init__(self, dimension: int, metric: str, rows_max: int, lists: FreshLists | None = None) -> None:
        self.metric = metric
        self.lists = lists
        self.ids: Ids = np.zeros(rows_max, np.int64)
        self.dead_at: Ids = np.full(rows_max, ALIVE, np.int64)
        self.vectors: Vectors = np.empty((rows_max, dimension), np.float32)
        self.count = 0
        self.dead = 0

    @property
    def rows_max(self) -> int:
        """Number of rows that fit."""
        return len(self.ids)

    def append(self, ids: Ids, vectors: Vectors, between: Callable[[], object] = lambda: None) -> None:
        """Add rows; ids ascending and higher than all before. Raises ValueError when they do not fit.

        ``between`` is called after each block of rows that was filed.
        """
        first, last = self.count, self.count + len(ids)
        if last > self.rows_max:
            raise ValueError(f"{last} rows do not fit into a delta of {self.rows_max}")
        self.ids[first:last] = ids
        self.vectors[first:last] = vectors
        if self.lists is not None:
            self.file(self.lists, first, last, between)
        self.count = last

    def file(self, lists: FreshLists, first: int, last: int, between: Callable[[], object] = lambda: None) -> None:
        """Append the rows ``first`` up to ``last`` to inverted lists; they are not searched by that."""
        for start in range(first, last, _BLOCK_ROWS):
            lists.append(self.vectors[start : min(last, start + _BLOCK_ROWS)])
            between()

    def search_by(self, lists: FreshLists, filed: int) -> None:
        """Go over from scanning to inverted lists that hold the first ``filed`` rows. On the writer thread."""
        self.file(lists, filed, self.count)
        self.lists = lists

    def mark_dead(self, experience: int, sequence: int) -> bool:
        """Hide a row from every view of this sequence or later; False when it is not in the delta."""
        position = int(np.searchsorted(self.ids[: self.count], experience))
        if position == self.count or self.ids[position] != experience:
            return False
        self.dead += int(self.dead_at[position] == ALIVE)
        self.dead_at[position] = min(sequence, int(self.dead_at[position]))
        return True

    def search(
        self,
        queries: Vectors,
        k: int,
        rows: int,
        sequence: int,
        lists: Positions | None,
        only: Mask | None = None,
    ) -> Positions:
        """Return (n, m) positions of the nearest among the first ``rows`` rows, -1 where one is dead or missing.

        In inverted lists the ones given are searched, else all rows; m is so high that the k nearest are among them.
        With ``only``, a mask by position, no others.
        """
        filed = self.lists
        if not rows:
            return np.full((len(queries), 1), -1, np.int64)

        def hidden(positions: Positions) -> Mask | None:
            if only is not None:
                return (positions >= rows) | ~only[np.minimum(positions, rows - 1)]
            if not self.dead and (filed is None or filed.rows <= rows):
                return None
            return (positions >= rows) | (self.dead_at[positions] <= sequence)

        share = 1.0 - self.dead / rows if only is None else float(np.mean(only))
        if filed is None or lists is None:
            seen = self.vectors[:rows]
            return visible(lambda fetch: exact_positions(self.metric, queries, seen, fetch), hidden, k, rows, share)
        # the lists may have grown beyond what this reader sees
        found = filed.refine * k
        return visible(lambda fetch: filed.search(queries, fetch, lists), hidden, found, self.rows_max, share)

    def seen(self, rows: int, sequence: int) -> Mask:
        """Return which of the first ``rows`` rows are live at this sequence."""
        return self.dead_at[:rows] > sequence

    def scores(self, queries: Vectors, positions: Positions) -> Vectors:
        """Return the exact scores of rows by position, -inf where there is none."""
        return scores_at(self.metric, queries, self.vectors, positions)

    def rows_after(self, last_id: int) -> tuple[Ids, Vectors]:
        """Return the live rows whose id is higher than ``last_id``."""
        start = int(np.searchsorted(self.ids[: self.count], last_id, side="right"))
        kept = start + np.flatnonzero(self.dead_at[start : self.count] == ALIVE)
        return self.ids[kept], self.vectors[kept]
