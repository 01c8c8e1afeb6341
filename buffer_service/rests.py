"""Rests between the pieces of work in the background, so that whoever answers requests gets its core in between.

The system lets a thread of any priority go on for milliseconds before another has its core, and the interpreter hands
its lock over only after half of one. So such work is cut into pieces of about a millisecond, each followed by a rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Rests:
    """Called after each piece, it rests ``times`` as long as the piece took; of one thread.

    ``wait`` is what it rests with: that of an event ends the rests once the event is set.
    """

    def __init__(
        self, times: float, wait: Callable[[float], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._times = times
        self._wait = wait
        self._clock = clock
        self._worked_from = clock()

    def begin(self) -> None:
        """Note that work begins after something else."""
        self._worked_from = self._clock()

    def __call__(self) -> None:
        """Rest."""
        self._wait(self._times * (self._clock() - self._worked_from))
        self.begin()
