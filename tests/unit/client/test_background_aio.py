"""The background appender for asyncio keeps the promises of the one with a thread."""

from __future__ import annotations

import asyncio
import inspect

import httpx
import pytest

from buffer_client import AsyncBackgroundAppender, AsyncBufferClient, BackgroundAppender, IncompleteAppendError
from buffer_client.errors import AppenderFullError, FlushTimeoutError
from tests.unit.client.serving import URL, Service, experiences, problem


def gated(service: Service, gate: asyncio.Event) -> AsyncBufferClient:
    """Return a client whose requests wait at the gate."""

    async def handle(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return service.handle(request)

    return AsyncBufferClient(URL, retries=0, transport=httpx.MockTransport(handle))


def test_both_appenders_have_the_same_methods_with_the_same_parameters() -> None:
    """What is learnt for one is known for the other."""

    def surface(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            "close" if name == "aclose" else name: list(inspect.signature(method).parameters)
            for name, method in methods
            if name == "__init__" or not name.startswith("_")
        }

    assert surface(BackgroundAppender) == surface(AsyncBackgroundAppender)


async def test_what_waits_is_sent_in_one_request_and_acknowledged_in_order() -> None:
    """While the first is under way the others gather."""
    service, gate = Service(), asyncio.Event()
    given = experiences(9)

    async with gated(service, gate) as client, AsyncBackgroundAppender(client, chunk_rows=5) as appender:
        await appender.put(given[0])
        await asyncio.sleep(0)
        for item in given[1:]:
            await appender.put(item)
        gate.set()
        await appender.flush()

        assert [len(request) for request in service.requests] == [1, 5, 3]
        assert list(service.ids) == [item.client_id for item in given]
        assert (client.sequence, len(appender)) == (9, 0)


async def test_a_full_appender_holds_up_its_caller_and_no_one_else() -> None:
    """The loop goes on; with a timeout the caller is told."""
    service, gate = Service(), asyncio.Event()
    given = experiences(3)

    async with gated(service, gate) as client, AsyncBackgroundAppender(client, rows_max=2) as appender:
        for item in given[:2]:
            await appender.put(item)
        with pytest.raises(AppenderFullError):
            await appender.put(given[2], timeout_s=0.01)
        with pytest.raises(FlushTimeoutError):
            await appender.flush(timeout_s=0.01)
        waiting = asyncio.create_task(appender.put(given[2]))
        gate.set()
        await waiting

    assert list(service.ids) == [item.client_id for item in given]


async def test_what_was_not_acknowledged_comes_back() -> None:
    """At the next put with that one, at the end of the block without."""
    service = Service(refuse=lambda _: problem(503, "overloaded"))
    gate = asyncio.Event()
    given = experiences(3)

    async with gated(service, gate) as client:
        appender = await AsyncBackgroundAppender(client).__aenter__()
        for item in given[:2]:
            await appender.put(item)
        gate.set()
        async with appender._changed:
            await appender._changed.wait_for(lambda: not len(appender))
        with pytest.raises(IncompleteAppendError) as first:
            await appender.put(given[2])
        await appender.put(given[0])
        with pytest.raises(IncompleteAppendError) as second:
            await appender.aclose()

    assert first.value.unacknowledged == tuple(given)
    assert second.value.unacknowledged == (given[0],)


async def test_one_experience_that_is_refused_takes_no_other_with_it() -> None:
    """As with the thread: the group is made smaller until it is alone."""
    given = experiences(20)
    service = Service(
        refuse=lambda chunk: problem(422, "invalid-request") if any(i["answer"] == "7" for i in chunk) else None
    )

    async with service.async_client() as client, AsyncBackgroundAppender(client) as appender:
        for item in given[:10]:
            await appender.put(item)
        with pytest.raises(IncompleteAppendError) as caught:
            await appender.flush()
        for item in given[10:]:
            await appender.put(item)
        await appender.flush()

    assert caught.value.unacknowledged == (given[7],)
    assert len(service.ids) == 19


async def test_without_its_block_an_appender_takes_nothing() -> None:
    """Nobody would send it: neither before nor after."""
    async with Service().async_client() as client:
        appender = AsyncBackgroundAppender(client)
        with pytest.raises(RuntimeError, match="closed"):
            await appender.put(experiences(1)[0])
        async with appender:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            await appender.put(experiences(1)[0])
