"""How often a buffer is looked at: soon again where something changes, ever more rarely where nothing does. Pure."""

from __future__ import annotations

import random
from typing import Final

from buffer_operator.queue import Key

_GROWTH: Final = 1.5


class Pace:
    """Pauses between looks, and when the API server itself has to be looked at.

    A pause starts at ``first_s`` and grows by half with each look that found nothing, up to ``max_s``; ``every_s`` is
    the longest time between two looks that ask the API server. Of pauses up to a tenth, of that time up to half is left
    to chance, so that hundreds of buffers that were asked about together do not stay together. Times are monotonic
    seconds.
    """

    def __init__(self, first_s: float, max_s: float, every_s: float, chance: random.Random) -> None:
        self._first_s = first_s
        self._max_s = max(first_s, max_s)
        self._every_s = every_s
        self._chance = chance
        self._pauses: dict[Key, float] = {}
        self._ask_at: dict[Key, float] = {}

    def glance_will_do(self, key: Key, now: float) -> bool:
        """Whether the API server has been asked recently enough."""
        return now < self._ask_at.get(key, now)

    def asked(self, key: Key, now: float) -> None:
        """Note that the API server has been asked about a buffer."""
        self._ask_at[key] = now + self._every_s * (1 - self._chance.random() / 2)

    def busy(self, key: Key) -> float:
        """Return the pause after a look that changed something."""
        self._pauses[key] = self._first_s
        return self._shaken(self._first_s)

    def quiet(self, key: Key) -> float:
        """Return the pause after a look that found nothing to do."""
        pause_s = min(self._max_s, self._pauses.get(key, self._first_s) * _GROWTH)
        self._pauses[key] = pause_s
        return self._shaken(pause_s)

    def forget(self, key: Key) -> None:
        """Forget a buffer that is gone."""
        self._pauses.pop(key, None)
        self._ask_at.pop(key, None)

    def _shaken(self, pause_s: float) -> float:
        return pause_s * (0.9 + self._chance.random() / 10)
