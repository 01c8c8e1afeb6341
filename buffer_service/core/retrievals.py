"""How often experiences were retrieved since the writer last committed it. Any thread notes, the writer takes.

A thousand searches a second retrieve ten thousand experiences, and to commit a count costs the writer a hundred times
what it costs to note it, at the expense of the searches. So no more than TAKEN_MAX are taken at once; the others wait
for their turn by rising id, and add up meanwhile.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

TAKEN_MAX = 1024
"""Experiences whose counts are committed at once, which takes the writer about ten milliseconds."""
_GATHERED_MAX = 8192
"""Answers that are kept as they are while the writer is held up; then they are added up."""

Ids = npt.NDArray[np.int64]


class Retrievals:
    """Counts by id, for searches and for samples apart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gathered: list[tuple[Ids, bool]] = []
        self._waiting: Ids = np.zeros((0, 3), np.int64)
        """Rows of id, searches, samples by rising id. The taker's, but for what a full ``_gathered`` is added to."""
        self._last = 0
        """The id that was taken last."""
        self._all = False

    def note(self, ids: Ids, *, searched: bool) -> None:
        """Count each of these ids once more; those below 1 stand for nothing."""
        with self._lock:
            self._gathered.append((np.array(ids).ravel(), searched))
            if len(self._gathered) >= _GATHERED_MAX:
                self._waiting = _added_up(self._gathered, self._waiting)
                self._gathered = []

    def take(self) -> list[tuple[int, int, int]]:
        """Return (id, searches, samples) of up to TAKEN_MAX experiences, and count these anew."""
        with self._lock:
            gathered, self._gathered = self._gathered, []
            waiting, self._waiting = self._waiting, self._waiting[:0]
        waiting = _added_up(gathered, waiting)
        taken = np.ones(len(waiting), bool)
        if not self._all and len(waiting) > TAKEN_MAX:
            first = int(np.searchsorted(waiting[:, 0], self._last, side="right"))
            taken[:] = False
            taken[np.arange(first, first + TAKEN_MAX) % len(waiting)] = True
            self._last = int(waiting[(first + TAKEN_MAX - 1) % len(waiting), 0])
        with self._lock:
            self._waiting = _added_up([], np.concatenate([self._waiting, waiting[~taken]]))
        return [tuple(row) for row in waiting[taken].tolist()]

    def take_all_from_now(self) -> None:
        """Hold nothing back any more, for the service ends."""
        self._all = True


def _added_up(gathered: list[tuple[Ids, bool]], counted: Ids) -> Ids:
    """Return rows of id, searches, samples, one for each id, rising; what was counted before may name an id twice."""
    parts = [counted]
    for searched in (True, False):
        noted = [ids for ids, by_search in gathered if by_search == searched]
        if noted:
            ids, counts = np.unique(np.concatenate(noted), return_counts=True)
            zeros = np.zeros(len(ids), np.int64)
            rows = np.column_stack([ids, counts, zeros] if searched else [ids, zeros, counts])
            parts.append(rows[ids > 0])
    every = np.concatenate(parts)
    ids, places = np.unique(every[:, 0], return_inverse=True)
    sums = [np.bincount(places, every[:, column], len(ids)).astype(np.int64) for column in (1, 2)]
    return np.column_stack([ids, *sums])
