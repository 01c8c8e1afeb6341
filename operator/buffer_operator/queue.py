"""The queue of buffers to visit: one entry per key, one visit per key at a time, delays and back-off.

``Schedule`` is the pure part: it is told the time. ``WorkQueue`` runs workers on it; it belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from buffer_operator import metrics
from buffer_operator.errors import OperatorError

log = logging.getLogger(__name__)

_EXPONENT_MAX: Final = 30


class Key(NamedTuple):
    """A buffer by its name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Return ``namespace/name``."""
        return f"{self.namespace}/{self.name}"


class Schedule:
    """When each key is due. A key that is being visited is not due again before that visit is over."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._visited: set[Key] = set()

    def add(self, key: Key, at: float) -> None:
        """Make the key due at that time, or earlier where it already is."""
        if key in self._due and self._due[key] <= at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, key))

    def pop(self, now: float) -> Key | None:
        """Take the key that has been due for longest and is not being visited; ``done`` must follow."""
        waiting = []
        found = None
        while self._heap and self._heap[0][0] <= now and found is None:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) != at:
                continue
            if key in self._visited:
                waiting.append((at, key))
                continue
            found = key
        for entry in waiting:
            heapq.heappush(self._heap, entry)
        if found is not None:
            del self._due[found]
            self._visited.add(found)
        return found

    def done(self, key: Key) -> None:
        """End the visit of a key."""
        self._visited.discard(key)

    def next_at(self) -> float | None:
        """Return when the next key is due that is not being visited; None where there is none."""
        return min((at for key, at in self._due.items() if key not in self._visited), default=None)

    def depth(self, now: float) -> int:
        """Return how many keys are due."""
        return sum(at <= now for at in self._due.values())


class Backoff:
    """Growing pauses: doubled with each failure in a row, capped, with up to half of it left to chance."""

    def __init__(self, first_s: float, max_s: float, chance: random.Random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._chance = chance
        self._failures: dict[Key, int] = {}

    def failed(self, key: Key) -> float:
        """Count a failure and return the pause in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(self._max_s, self._first_s * 2.0 ** min(failures, _EXPONENT_MAX))
        return pause * (1 - self._chance.random() / 2)

    def succeeded(self, key: Key) -> None:
        """Forget the failures of a key."""
        self._failures.pop(key, None)


Visit = Callable[[Key], Awaitable[float | None]]
"""Visits a buffer and returns after how many seconds to come back; None means not before something happens."""


class WorkQueue:
    """Workers that visit keys as they fall due. A visit that raises is repeated with back-off."""

    def __init__(self, visit: Visit, backoff: Backoff) -> None:
        self._visit = visit
        self._backoff = backoff
        self._schedule = Schedule()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def add(self, key: Key, after_s: float = 0.0) -> None:
        """Visit the key in so many seconds, or earlier where that is planned already."""
        self._schedule.add(key, self._loop.time() + after_s)
        self._changed.set()

    async def work(self) -> None:
        """Be one worker, until cancelled."""
        while True:
            key = await self._next()
            try:
                await self._run(key)
            finally:
                self._schedule.done(key)
                self._changed.set()

    async def _run(self, key: Key) -> None:
        try:
            after_s = await self._visit(key)
        except Exception as error:
            known = error if isinstance(error, OperatorError) else None
            pause_s = max(self._backoff.failed(key), known.after_s if known else 0.0)
            unexpected = None if known else error
            log.warning("%s: %s; next visit in %.1f s", key, error, pause_s, exc_info=unexpected)
            self.add(key, pause_s)
            return
        self._backoff.succeeded(key)
        if after_s is not None:
            self.add(key, after_s)

    async def _next(self) -> Key:
        while True:
            now = self._loop.time()
            key = self._schedule.pop(now)
            metrics.QUEUE_DEPTH.set(self._schedule.depth(now))
            if key is not None:
                return key
            self._changed.clear()
            due = self._schedule.next_at()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue
