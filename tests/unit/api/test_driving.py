"""Coroutines that run without a task: at once, and on from where they wait as soon as that is there."""

from __future__ import annotations

import asyncio

import pytest

from buffer_service.api.driving import Driven
from buffer_service.core.pending import Pending


async def test_what_does_not_wait_is_done_at_once() -> None:
    """Before anything else has its turn."""

    async def answer() -> int:
        return 7

    got: list[int] = []
    Driven(answer(), got.append)

    assert got == [7]


async def test_it_goes_on_as_soon_as_the_answer_is_there() -> None:
    """Within the call that answers, one wait after the other; an error is raised where it is waited for."""
    loop = asyncio.get_running_loop()
    first: Pending[int] = Pending(loop)
    second: Pending[int] = Pending(loop)

    async def answer() -> str:
        found = await first
        try:
            await second
        except ValueError as error:
            return f"{found} {error}"
        return "no error"

    got: list[str] = []
    Driven(answer(), got.append)
    first.set_result(1)
    assert got == []
    second.set_exception(ValueError("bad"))

    assert got == ["1 bad"]


async def test_an_answer_that_is_there_already_is_not_waited_for() -> None:
    """As when it was made before anybody asked."""
    pending: Pending[int] = Pending(asyncio.get_running_loop())
    pending.set_result(3)

    async def answer() -> int:
        return await pending

    got: list[int] = []
    Driven(answer(), got.append)

    assert got == [3]


async def test_futures_of_asyncio_and_turns_of_the_loop_can_be_waited_for() -> None:
    """What runs on a thread, what sleeps, and what only lets others go first."""
    loop = asyncio.get_running_loop()

    async def answer() -> list[int]:
        found = await loop.run_in_executor(None, lambda: 5)
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)
        return [found]

    done: asyncio.Future[list[int]] = loop.create_future()
    Driven(answer(), done.set_result)

    assert await asyncio.wait_for(done, 10) == [5]


@pytest.mark.parametrize("droppable", [True, False])
async def test_only_what_may_be_dropped_is_given_up_with_its_caller(*, droppable: bool) -> None:
    """A search is; a write that was sent is done, whoever waits for it."""
    pending: Pending[int] = Pending(asyncio.get_running_loop(), droppable=droppable)

    async def answer() -> int:
        return await pending

    got: list[int] = []
    driven = Driven(answer(), got.append)
    driven.caller_gone()

    assert pending.cancelled() == droppable
    pending.set_result(1)
    assert got == [1]
    driven.caller_gone()


async def test_an_answer_that_cannot_be_passed_on_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever answers goes on with the next; the log says what happened."""
    pending: Pending[int] = Pending(asyncio.get_running_loop())

    async def answer() -> int:
        return await pending

    def fail(_: int) -> None:
        raise OSError("the socket is gone")

    Driven(answer(), fail)
    pending.set_result(1)

    assert "the socket is gone" in caplog.text
