"""What arrives together is gathered: until a look at all connections has brought no more, or there is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turn(Generic[T]):
    """What has arrived and was not begun with. On the event loop only.

    ``end`` gets all of it, in order; once there are ``enough`` nobody looks for more. Nothing waits for others that are
    not there yet: alone, one is given on after one look.
    """

    def __init__(self, end: Callable[[list[T]], None], enough: int) -> None:
        self._end = end
        self._enough = enough
        self._gathered: list[T] = []

    def __len__(self) -> int:
        return len(self._gathered)

    def add(self, item: T, loop: asyncio.AbstractEventLoop) -> None:
        """Take what has arrived on this loop, and look for more before it is given on."""
        if not self._gathered:
            loop.call_soon(self._look_for_more, loop, 0)
        self._gathered.append(item)

    def end(self) -> None:
        """Give on what has been gathered now, without another look."""
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._end(gathered)

    def _look_for_more(self, loop: asyncio.AbstractEventLoop, seen: int) -> None:
        if seen < len(self._gathered) < self._enough:
            loop.call_soon(self._look_for_more, loop, len(self._gathered))
        else:
            self.end()
