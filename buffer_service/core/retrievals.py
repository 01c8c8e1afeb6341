"""How often experiences were retrieved since the writer last committed it. Any thread notes, the writer takes."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

_GATHERED_MAX = 1024
"""Answers kept as they are before they are counted; counting many at once is far cheaper than each by itself."""

Ids = npt.NDArray[np.int64]
Counts = dict[int, int]


class Retrievals:
    """Counts by id, for searches and for samples apart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gathered: tuple[list[Ids], list[Ids]] = ([], [])
        self._counted: tuple[Counts, Counts] = ({}, {})

    def note(self, ids: Ids, *, searched: bool) -> None:
        """Count each of these ids once more; those below 1 stand for nothing."""
        with self._lock:
            gathered = self._gathered[searched]
            gathered.append(np.array(ids))
            if len(gathered) >= _GATHERED_MAX:
                self._count(searched)

    def take(self) -> list[tuple[int, int, int]]:
        """Return (id, searches, samples) by rising id, and begin anew."""
        with self._lock:
            for searched in (False, True):
                self._count(searched)
            (samples, searches), self._counted = self._counted, ({}, {})
        ids = sorted(samples.keys() | searches.keys())
        return [(experience, searches.get(experience, 0), samples.get(experience, 0)) for experience in ids]

    def _count(self, searched: int) -> None:
        gathered, counted = self._gathered[searched], self._counted[searched]
        if not gathered:
            return
        ids, counts = np.unique(np.concatenate([part.ravel() for part in gathered]), return_counts=True)
        gathered.clear()
        for experience, count in zip(ids.tolist(), counts.tolist(), strict=True):
            if experience > 0:
                counted[experience] = counted.get(experience, 0) + count
