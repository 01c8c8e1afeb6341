"""Searches go before writes: beside searches that need all there is, the writer takes but a part of a core.

Whatever the writer does takes the interpreter's lock and a core from searches that run at the same time. So it has an
allowance of processor time for what it does beside them, and rests once that is spent; what comes meanwhile shares the
next group, and takes less for each. It never rests where nobody searches meanwhile, as one who searches and appends by
turns, nor where few write, nor where searches themselves take less than that part of a core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

SHARE = 0.2
"""Of a core, for what is done beside searches."""
SAVED_MAX_S = 0.005
"""Allowance that is kept for a burst: a commit of retrieval counts, a few writes that come at once."""
REST_MAX_S = 0.02
"""A longer debt is forgiven, so that no write waits for more."""


class Searches(Protocol):
    """What is known of searches. Any thread may ask."""

    @property
    def searched_s(self) -> float:
        """Seconds that searches have taken since the start."""
        ...

    def searched_since(self, moment: float) -> bool:
        """Tell whether one has been under way since a moment of ``time.perf_counter``."""
        ...


class Precedence:
    """The writer's allowance. On its thread. ``clock`` is that of the searches."""

    def __init__(
        self,
        searches: Searches,
        *,
        clock: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.thread_time,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._searches = searches
        self._clock = clock
        self._processor = processor
        self._wait = wait
        self._saved_s = SAVED_MAX_S
        self._saved_at = self._began_at = clock()
        self._worked_s = 0.0
        self._searched_s = searches.searched_s
        self.rested_s = 0.0
        """Since the start."""

    def begin(self) -> None:
        """Note that work begins."""
        self._began_at, self._worked_s = self._clock(), self._processor()

    def give(self) -> None:
        """Rest, where what was done since ``begin`` beside searches is more than the allowance that is left.

        No more than the searches since the last call took counts: one or two beside a large group do not slow it down.
        """
        now, searched_s = self._clock(), self._searches.searched_s
        passed_s, beside_s = now - self._saved_at, searched_s - self._searched_s
        self._saved_at, self._searched_s = now, searched_s
        spent_s = 0.0
        if self._searches.searched_since(self._began_at):
            spent_s = min(self._processor() - self._worked_s, beside_s)
        self._saved_s = min(SAVED_MAX_S, self._saved_s + SHARE * passed_s - spent_s)
        if self._saved_s < 0:
            rest_s = min(REST_MAX_S, -self._saved_s / SHARE)
            self._saved_s = -SHARE * rest_s
            self.rested_s += rest_s
            self._wait(rest_s)
