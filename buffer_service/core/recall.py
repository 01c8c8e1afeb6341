"""Recall as it is in production: a share of live searches is done again by a scan of all, and the two compared.

One thread of low priority, which rests much longer than it works, and works for less than a millisecond at a time: the
system lets a thread of any priority go on for milliseconds before others have its core again. What comes meanwhile is
not checked. Only searches with the effort found at build time count towards the recall of a generation, and a new
generation starts anew.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
from collections import deque

import numpy as np

from buffer_service.index.metric import Vectors
from buffer_service.index.view import Found, View
from buffer_service.rests import Rests

log = logging.getLogger(__name__)

CHECKS_MIN = 100
"""Checked searches from which the recall is known well enough to act on."""
_CHECKS_KEPT = 1000
_REST = 30
"""Times as long as it worked that the thread rests, so that it takes about a thirtieth of one core at most."""
_NICENESS = 15
_K_MAX = 10
_TOLERANCE = 1e-5


class _GivenUpError(Exception):
    """A check is not worth its end: the service stops, or its generation is served no more and should be let go."""


class RecallCheck:
    """Checks searches in the background; ``share`` of them, 0 for none."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._random = random.Random()  # noqa: S311 - chance, not secrecy
        self._offered: queue.Queue[tuple[View, Vectors, Found] | None] = queue.Queue(1)
        self._lock = threading.Lock()
        self._recalls: deque[float] = deque(maxlen=_CHECKS_KEPT)
        self._generation = 0
        self._served = 0
        """The generation of the last search that was offered."""
        self._stop = threading.Event()
        self._rest = Rests(_REST, self._stop.wait)
        self.checked = 0
        """Searches checked since the start."""
        self._thread = threading.Thread(target=self._run, name="recall", daemon=True)
        if share > 0:
            self._thread.start()

    def recall(self, generation: int) -> float | None:
        """Return the recall of a generation in the searches checked so far, None while too few have been."""
        with self._lock:
            known = self._generation == generation and len(self._recalls) >= CHECKS_MIN
            return float(np.mean(self._recalls)) if known else None

    def offer(self, view: View, queries: Vectors, found: Found) -> None:
        """Take one query of a search for a check, or not. Never waits."""
        self._served = found.generation
        if self._share <= 0 or self._random.random() >= self._share * len(queries) or self._offered.full():
            return
        row = self._random.randrange(len(queries))
        answer = Found(found.ids[row : row + 1], found.scores[row : row + 1], found.sequence, found.generation)
        try:
            self._offered.put_nowait((view, queries[row : row + 1].copy(), answer))
        except queue.Full:
            return

    def close(self) -> None:
        """Stop after the check that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._drop_offered()
            self._offered.put(None)
            self._thread.join()

    def _drop_offered(self) -> None:
        try:
            self._offered.get_nowait()
        except queue.Empty:
            return

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while not self._stop.is_set():
            offered = self._offered.get()
            if offered is None:
                return
            self._rest.begin()
            try:
                self._check(*offered)
            except _GivenUpError:
                log.debug("a check was given up: its generation is served no more, or the service stops")
            except Exception:
                log.exception("a search could not be checked")
            del offered  # a generation that was replaced must not be held by it
            self._rest()

    def _rest_within(self, generation: int) -> None:
        self._rest()
        if self._stop.is_set() or self._served != generation:
            raise _GivenUpError

    def _check(self, view: View, query: Vectors, found: Found) -> None:
        k = min(_K_MAX, found.ids.shape[1])
        exact = view.exact(query, k, between=lambda: self._rest_within(found.generation))
        true = exact.scores[0][exact.ids[0] > 0]
        if not len(true):
            return
        least = true[-1] - _TOLERANCE * max(1.0, abs(float(true[-1])))
        recall = min(len(true), int(np.count_nonzero(found.scores[0, :k] >= least))) / len(true)
        with self._lock:
            if found.generation != self._generation:
                self._generation = found.generation
                self._recalls.clear()
            self._recalls.append(recall)
            self.checked += 1
