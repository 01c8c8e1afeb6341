"""How often experiences were retrieved since the writer last committed it. Any thread notes, the writer takes.

A thousand searches a second retrieve ten thousand experiences, and to commit a count costs the writer a hundred times
what it costs to note it, at the expense of the searches. So no more than TAKEN_MAX are taken at once; the others wait
for their turn by slot of the table, and add up meanwhile.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from buffer_service.storage.table import Table

TAKEN_MAX = 256
"""Experiences whose counts are committed at once, which takes the writer two to three milliseconds."""
_GATHERED_MAX = 8192
"""Answers that are kept as they are while the writer is held up; then they are added up."""
_SEARCHES, _SAMPLES = 0, 1

Ids = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]


class Retrievals:
    """Counts by id, for searches and for samples apart; those of experiences that have left are forgotten."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._lock = threading.Lock()
        self._gathered: list[tuple[int, Ids, Counts | None]] = []
        """What was retrieved how, and how often where that is not once."""
        self._ids: Ids = np.zeros(0, np.int64)
        """By slot, whose counts wait there. These three are the taker's alone."""
        self._counts: Counts = np.zeros((2, 0), np.int64)
        self._next_slot = 0
        self._all = False
        self.behind = False
        """Whether more waits than was taken last."""

    def note(self, ids: Ids, *, searched: bool) -> None:
        """Count each of these ids once more; those below 1 stand for nothing."""
        with self._lock:
            self._gathered.append((_SEARCHES if searched else _SAMPLES, np.array(ids).ravel(), None))
            if len(self._gathered) >= _GATHERED_MAX:
                self._gathered = [(kind, *_added_up(*_joined(self._gathered, kind))) for kind in (_SEARCHES, _SAMPLES)]

    def take(self) -> list[tuple[int, int, int]]:
        """Return (id, searches, samples) of up to TAKEN_MAX experiences, and count these anew. On the writer thread."""
        with self._lock:
            gathered, self._gathered = self._gathered, []
        self._make_room()
        for kind in (_SEARCHES, _SAMPLES):
            self._add(kind, *_joined(gathered, kind))
        slots = self._turn()
        rows = np.column_stack([self._ids[slots], self._counts[:, slots].T])
        self._counts[:, slots] = 0
        return [tuple(row) for row in rows[np.argsort(rows[:, 0])].tolist()]

    def take_all_from_now(self) -> None:
        """Hold nothing back any more, for the service ends."""
        self._all = True

    def _make_room(self) -> None:
        more = self._table.slot_count - len(self._ids)
        if more:
            self._ids = np.append(self._ids, np.zeros(more, np.int64))
            self._counts = np.append(self._counts, np.zeros((2, more), np.int64), axis=1)

    def _add(self, kind: int, ids: Ids, counts: Counts) -> None:
        slots = self._table.slots_of(ids)
        live = slots >= 0
        slots, ids = slots[live], ids[live]
        others = self._ids[slots] != ids
        self._counts[:, slots[others]] = 0
        self._ids[slots] = ids
        np.add.at(self._counts[kind], slots, counts[live])

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


def _joined(gathered: list[tuple[int, Ids, Counts | None]], kind: int) -> tuple[Ids, Counts]:
    """Return what was retrieved in this way and how often; an id may be there twice, and stands for something."""
    parts = [(ids, counts) for which, ids, counts in gathered if which == kind]
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ids = np.concatenate([ids for ids, _ in parts])
    counts = np.concatenate([np.ones(len(ids), np.int64) if counts is None else counts for ids, counts in parts])
    return ids[ids > 0], counts[ids > 0]


def _added_up(ids: Ids, counts: Counts) -> tuple[Ids, Counts]:
    """Return each id once."""
    once, places = np.unique(ids, return_inverse=True)
    return once, np.bincount(places, counts, len(once)).astype(np.int64)
