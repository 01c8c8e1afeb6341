"""How uneven prioritised draws are: effective sample size and entropy of their distribution.

Both need a pass over all weights, about 15 ms for a million. It is made off the hot path, in pieces between which draws
and writes go on, and at most once in ``INTERVAL_S``. Any thread may ask.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from buffer_service.core.sampler import Sampler

log = logging.getLogger(__name__)

INTERVAL_S = 10.0
"""Least time between two passes."""
_PIECE_SLOTS = 65_536


@dataclass(frozen=True, slots=True)
class Evenness:
    """Of the distribution P that a prioritised draw follows, the uniform share included."""

    effective_size: float
    """1 / Σ P²: so many experiences drawn uniformly would repeat as often. Between 1 and the number of experiences."""
    entropy_nats: float
    """−Σ P ln P. Between 0 and the logarithm of the number of experiences."""


def evenness(sampler: Sampler, now_s: float) -> Evenness | None:
    """Return how even the weights are now; None for an empty buffer."""
    total = squares = logarithms = 0.0
    first = 0
    while len(weights := sampler.weights_between(first, first + _PIECE_SLOTS, now_s)):
        weights = weights[weights > 0.0]
        total += float(weights.sum())
        squares += float(weights @ weights)
        logarithms += float(weights @ np.log(weights))
        first += _PIECE_SLOTS
    if total == 0.0:
        return None
    return Evenness(total * total / squares, float(np.log(total)) - logarithms / total)


class Distribution:
    """The latest evenness; close it."""

    def __init__(self, sampler: Sampler, clock: Callable[[], float]) -> None:
        self._sampler = sampler
        self._clock = clock
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="distribution")
        self._lock = threading.Lock()
        self._measured_at = -INTERVAL_S
        self._latest: Evenness | None = None

    def close(self) -> None:
        """Finish the pass that runs."""
        self._aside.shutdown()

    def latest(self) -> Evenness | None:
        """Return the last that was measured, and have it measured anew if that was long ago; never waits for it."""
        now = time.monotonic()
        with self._lock:
            if now - self._measured_at >= INTERVAL_S:
                self._measured_at = now
                self._aside.submit(self._measure)
        return self._latest

    def _measure(self) -> None:
        try:
            self._latest = evenness(self._sampler, self._clock())
        except Exception:
            log.exception("the evenness of the draws was not measured")
