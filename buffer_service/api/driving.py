"""Running a coroutine without a task: at once up to where it waits, and on from there as soon as that is done.

A task takes its first step in the loop's next turn, and each later one in a turn after its future was answered. For a
request that takes ten microseconds of work these turns cost more than the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from buffer_service.core.pending import Pending

T = TypeVar("T")


class Driven(Generic[T]):
    """A coroutine that runs, and what is called with what it returns. It must not raise. On the event loop."""

    __slots__ = ("_coroutine", "_done", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, T], done: Callable[[T], object]) -> None:
        self._coroutine = coroutine
        self._done = done
        self._waits_for: Any = None
        self._step()

    def caller_gone(self) -> None:
        """Let what it waits for know that nobody needs it any more."""
        if isinstance(self._waits_for, Pending):
            self._waits_for.caller_gone()

    def _step(self, _: object = None) -> None:
        try:
            self._waits_for = self._coroutine.send(None)
        except StopIteration as end:
            self._waits_for = None
            self._done(end.value)
            return
        if self._waits_for is None:  # it only lets others have their turn
            asyncio.get_running_loop().call_soon(self._step)
        else:
            self._waits_for.add_done_callback(self._step)
