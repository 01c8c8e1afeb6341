"""An answer that a coroutine on an event loop waits for, and that other threads make.

It is what is left of asyncio's future when one coroutine waits, once: nothing is scheduled between the answer and the
coroutine's next step, which under a load of small requests takes longer than the step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any, Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
Given_contra = TypeVar("Given_contra", contravariant=True)


class Waiting(Protocol[Given_contra]):
    """Who waits on an event loop: Pending, or asyncio's future. Answered once, on that loop."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        ...

    def cancelled(self) -> bool:
        """Tell whether nobody waits any more; any thread may ask."""
        ...

    def set_result(self, result: Given_contra, /) -> None:
        """Answer."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """Answer with an error."""
        ...


class Pending(Generic[T]):
    """See the module. What is ``droppable`` may be left undone once its caller has gone, but is answered."""

    __slots__ = ("_done", "_droppable", "_error", "_gone", "_loop", "_proceed", "_value")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, droppable: bool = False) -> None:
        self._loop = loop
        self._droppable = droppable
        self._proceed: Callable[[Any], object] | None = None
        self._done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._gone = False

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop on which it is to be answered."""
        return self._loop

    def cancelled(self) -> bool:
        """Tell whether it may be left undone, for the caller has gone."""
        return self._gone and self._droppable

    def caller_gone(self) -> None:
        """Note that nobody needs the answer any more."""
        self._gone = True

    def set_result(self, result: T) -> None:
        """Answer; whoever waits goes on before this returns. On the loop."""
        self._done, self._value = True, result
        self._go_on()

    def set_exception(self, exception: BaseException) -> None:
        """Answer with an error. On the loop."""
        self._done, self._error = True, exception
        self._go_on()

    def add_done_callback(self, proceed: Callable[[Any], object]) -> None:
        """Call this when the answer is there."""
        self._proceed = proceed

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the answer, in a coroutine that ``Driven`` runs."""
        if not self._done:
            yield self
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value] # there is one, for there is no error

    def _go_on(self) -> None:
        if self._proceed is None:
            return
        try:
            self._proceed(self)
        except Exception:  # whoever answers has others to answer, too
            log.exception("an answer could not be passed on")
