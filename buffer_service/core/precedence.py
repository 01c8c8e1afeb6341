"""Searches go before writes: beside searches that need all there is, the writer takes but a part of a core.

Whatever the writer does takes the interpreter's lock and a core from searches that run at the same time. So it has an
allowance of processor time for what it does beside them, and rests once that is spent; what comes meanwhile shares the
next group, and takes less for each. Where nobody searches meanwhile, or few write, it never rests.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.2
"""Of a core, for what is done beside searches."""
SAVED_MAX_S = 0.005
"""Allowance that is kept for a burst: a commit of retrieval counts, a few writes that come at once."""
REST_MAX_S = 0.02
"""A longer debt is forgiven, so that no write waits for more."""


class Precedence:
    """The writer's allowance. On its thread.

    ``searched_since`` tells whether a search has been under way since a moment of ``clock``.
    """

    def __init__(
        self,
        searched_since: Callable[[float], bool],
        *,
        clock: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.thread_time,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._searched_since = searched_since
        self._clock = clock
        self._processor = processor
        self._wait = wait
        self._saved_s = SAVED_MAX_S
        self._saved_at = self._began_at = clock()
        self._worked_s = 0.0
        self.rested_s = 0.0
        """Since the start."""

    def begin(self) -> None:
        """Note that work begins."""
        self._began_at, self._worked_s = self._clock(), self._processor()

    def give(self) -> None:
        """Rest, where the work since ``begin`` was beside searches, and more than the allowance that is left."""
        now = self._clock()
        self._saved_s = min(SAVED_MAX_S, self._saved_s + SHARE * (now - self._saved_at))
        self._saved_at = now
        if not self._searched_since(self._began_at):
            return
        self._saved_s -= self._processor() - self._worked_s
        if self._saved_s < 0:
            rest_s = min(REST_MAX_S, -self._saved_s / SHARE)
            self._saved_s = -SHARE * rest_s
            self.rested_s += rest_s
            self._wait(rest_s)
