"""A queued write, and how its answer gets to whoever waits: on a thread of its own, or on an event loop.

A write is settled on the writer thread while its group is committed, and delivered when the group is done: to a loop
with one wake-up for all that wait there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Generic, TypeVar

from buffer_service.core.appending import AppendRequest
from buffer_service.core.pending import Waiting
from buffer_service.core.plan import Plan

log = logging.getLogger(__name__)

T = TypeVar("T")


class Write(Generic[T]):
    """What is to be planned, and who waits for it."""

    __slots__ = ("_error", "_value", "appends", "future", "plan", "settled")

    def __init__(
        self,
        plan: Callable[[Plan], T],
        future: Future[T] | Waiting[T],
        appends: AppendRequest | None = None,
    ) -> None:
        self.plan = plan
        self.future = future
        self.appends = appends
        self.settled = False
        self._value: T | None = None
        self._error: BaseException | None = None

    def succeed(self, value: T) -> None:
        """Keep the answer."""
        self.settled, self._value = True, value

    def fail(self, error: BaseException) -> None:
        """Keep the error."""
        self.settled, self._error = True, error

    def answer(self) -> None:
        """Answer whoever waits; on its loop, where the future belongs to one."""
        with contextlib.suppress(InvalidStateError, asyncio.InvalidStateError):  # given up meanwhile
            if self._error is not None:
                self.future.set_exception(self._error)
            else:
                self.future.set_result(self._value)  # type: ignore[arg-type] # settled without error


class Call(Generic[T]):
    """A call that needs the state between two groups."""

    def __init__(self, call: Callable[[], T], future: Future[T]) -> None:
        self._call = call
        self._future = future

    def run(self) -> None:
        """Call, and answer whoever waits."""
        try:
            self._future.set_result(self._call())
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._future.set_exception(error)


def deliver(writes: Sequence[Write[Any]]) -> None:
    """Answer all of a group."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Write[Any]]] = {}
    for write in writes:
        if isinstance(write.future, Future):
            write.answer()
        else:
            by_loop.setdefault(write.future.get_loop(), []).append(write)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_answer_all, group)
        except RuntimeError:
            log.debug("the loop of %d writes is closed: nobody waits for them", len(group))


def _answer_all(writes: Sequence[Write[Any]]) -> None:
    for write in writes:
        write.answer()
