"""How often experiences were retrieved since the writer last committed it. Any thread notes, the writer takes.

A thousand searches a second retrieve ten thousand experiences, and to commit a count costs the writer ten times what it
costs to note it, at the expense of the searches. So no more than TAKEN_MAX are taken at once; the others wait for their
turn by slot of the table, and add up meanwhile. Who notes adds up as well, a few answers at a time: were it left to the
writer, it would have a core, and the interpreter, for milliseconds.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
import numpy.typing as npt

from buffer_service.storage.table import Table

TAKEN_MAX = 256
"""Experiences whose counts are committed at once, which takes the writer about a millisecond."""
_GATHERED_MAX = 32
"""Answers that are added up together: a tenth of a millisecond for batches of searches."""
_SEARCHES, _SAMPLES = 0, 1

Ids = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]


class Retrievals:
    """Counts by id, for searches and for samples apart; those of experiences that have left are forgotten."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._gathered: deque[tuple[int, Ids]] = deque()
        """What was retrieved how, and is not added up yet."""
        self._lock = threading.Lock()
        """Held by the one that adds up or takes."""
        self._ids: Ids = np.zeros(0, np.int64)
        """By slot, whose counts wait there."""
        self._counts: Counts = np.zeros((2, 0), np.int64)
        self._next_slot = 0
        self._all = False
        self.behind = False
        """Whether more waits than was taken last."""

    def note(self, ids: Ids, *, searched: bool) -> None:
        """Count each of these ids once more; those below 1 stand for nothing. Never waits."""
        self._gathered.append((_SEARCHES if searched else _SAMPLES, np.array(ids).ravel()))
        if len(self._gathered) >= _GATHERED_MAX and self._lock.acquire(blocking=False):
            try:
                self._add_up()
            finally:
                self._lock.release()

    def take(self) -> list[tuple[int, int, int]]:
        """Return (id, searches, samples) of up to TAKEN_MAX experiences, and count these anew. On the writer thread."""
        with self._lock:
            self._add_up()
            slots = self._turn()
            rows = np.column_stack([self._ids[slots], self._counts[:, slots].T])
            self._counts[:, slots] = 0
        return [tuple(row) for row in rows[np.argsort(rows[:, 0])].tolist()]

    def take_all_from_now(self) -> None:
        """Hold nothing back any more, for the service ends."""
        self._all = True

    def _add_up(self) -> None:
        by_kind: tuple[list[Ids], list[Ids]] = ([], [])
        for _ in range(len(self._gathered)):  # others may add to it meanwhile
            kind, ids = self._gathered.popleft()
            by_kind[kind].append(ids)
        for kind, parts in enumerate(by_kind):
            if parts:
                self._add(kind, np.concatenate(parts))

    def _add(self, kind: int, ids: Ids) -> None:
        slots = self._table.slots_of(ids)
        live = slots >= 0
        slots, ids = slots[live], ids[live]
        self._make_room()
        others = self._ids[slots] != ids
        self._counts[:, slots[others]] = 0
        self._ids[slots] = ids
        kept = self._ids[slots] == ids  # the writer may have given a slot away while they were looked up
        np.add.at(self._counts[kind], slots[kept], 1)

    def _make_room(self) -> None:
        more = self._table.slot_count - len(self._ids)
        if more:
            self._ids = np.append(self._ids, np.zeros(more, np.int64))
            self._counts = np.append(self._counts, np.zeros((2, more), np.int64), axis=1)

    def _turn(self) -> Ids:
        """Return the slots whose counts are taken."""
        waiting: Ids = np.flatnonzero(self._counts.any(axis=0))
        left = self._table.ids[waiting] != self._ids[waiting]
        self._counts[:, waiting[left]] = 0
        waiting = waiting[~left]
        self.behind = not self._all and len(waiting) > TAKEN_MAX
        if self.behind:
            first = int(np.searchsorted(waiting, self._next_slot))
            waiting = waiting[np.arange(first, first + TAKEN_MAX) % len(waiting)]
            self._next_slot = int(waiting[-1]) + 1
        return waiting
