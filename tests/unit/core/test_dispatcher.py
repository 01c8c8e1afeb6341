"""Searches of many callers: batched by what waits, each answered with its own rows, refused when too many wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from buffer_service.core.dispatcher import Dispatcher
from buffer_service.core.pace import BATCH_ROWS_MAX
from buffer_service.errors import InvalidRequestError, OverloadedError
from buffer_service.index.main import Effort
from buffer_service.index.metric import Vectors
from buffer_service.index.view import Found
from tests.helpers.searches import WAITING_MAX, put


class Engine:
    """Answers each query with its own first number as the id; can be held while it searches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def search(self, queries: Vectors, k: int, effort: Effort) -> Found:
        """Refuse a batch with a negative number in it, as a query may be refused."""
        del effort
        self.batches.append(queries[:, 0].astype(int).tolist())
        self.begun.release()
        assert self.free.wait(10)
        if (queries < 0).any():
            raise InvalidRequestError("negative")
        ids = np.repeat(queries[:, :1].astype(np.int64), k, axis=1)
        return Found(ids, ids.astype(np.float32), 7, 3)


@pytest.fixture
def engine() -> Engine:
    """An engine that is free."""
    return Engine()


@pytest.fixture
def dispatcher(engine: Engine) -> Iterator[Dispatcher]:
    """Closed after the test."""
    made = Dispatcher(engine.search, WAITING_MAX, inline=lambda: False)
    yield made
    engine.free.set()
    made.close()


async def _held(dispatcher: Dispatcher, engine: Engine) -> asyncio.Future[Found]:
    """Return a search with which the engine is busy from here on."""
    engine.free.clear()
    first = put(dispatcher, 1000)
    assert await asyncio.to_thread(engine.begun.acquire, timeout=10)
    return first


async def test_a_search_alone_does_not_wait(dispatcher: Dispatcher, engine: Engine) -> None:
    """Nothing is held back to fill a batch."""
    found = await asyncio.wait_for(put(dispatcher, 5), 10)

    assert (found.ids.tolist(), found.sequence, found.generation) == ([[5, 5]], 7, 3)
    assert engine.batches == [[5]]


async def test_what_waits_while_the_engine_is_busy_goes_as_one_batch(dispatcher: Dispatcher, engine: Engine) -> None:
    """And each caller gets the rows of its own queries."""
    first = await _held(dispatcher, engine)
    waiting = [put(dispatcher, number, rows=number) for number in range(1, 6)]
    engine.free.set()

    answers = await asyncio.gather(first, *waiting)

    assert [answer.ids[:, 0].tolist() for answer in answers[1:]] == [[number] * number for number in range(1, 6)]
    assert [len(batch) for batch in engine.batches] == [1, 15]


async def test_a_batch_is_bounded_and_what_is_left_goes_next(dispatcher: Dispatcher, engine: Engine) -> None:
    """So that nobody waits for a batch of thousands."""
    first = await _held(dispatcher, engine)
    waiting = [put(dispatcher, number, rows=BATCH_ROWS_MAX // 2) for number in range(5)]
    engine.free.set()
    answers = await asyncio.gather(first, *waiting)

    assert [int(answer.ids[0, 0]) for answer in answers[1:]] == list(range(5))
    assert max(len(batch) for batch in engine.batches) == BATCH_ROWS_MAX


async def test_only_searches_of_one_kind_share_a_call(dispatcher: Dispatcher, engine: Engine) -> None:
    """Another k, or another effort, is a call of its own."""
    first = await _held(dispatcher, engine)
    waiting = [put(dispatcher, 1, k=3), put(dispatcher, 2, k=4), put(dispatcher, 3, k=3, effort=Effort(probes=9))]
    engine.free.set()
    answers = await asyncio.gather(first, *waiting)

    assert [answer.ids.shape[1] for answer in answers[1:]] == [3, 4, 3]
    assert engine.batches[1:] == [[1], [2], [3]]


async def test_a_bad_query_harms_no_other(dispatcher: Dispatcher, engine: Engine) -> None:
    """The batch that it spoils is done again, one by one."""
    first = await _held(dispatcher, engine)
    good, bad, other = put(dispatcher, 1), put(dispatcher, -2), put(dispatcher, 3)
    engine.free.set()
    await first

    assert [int((await future).ids[0, 0]) for future in (good, other)] == [1, 3]
    with pytest.raises(InvalidRequestError, match="negative"):
        await bad


async def test_too_many_waiting_are_refused_with_a_time_to_come_back(dispatcher: Dispatcher, engine: Engine) -> None:
    """The queue is bounded, and nothing that was taken is lost."""
    first = await _held(dispatcher, engine)
    waiting = [put(dispatcher, number) for number in range(WAITING_MAX)]
    with pytest.raises(OverloadedError) as refused:
        put(dispatcher, 1)
    engine.free.set()

    assert refused.value.retry_after_s > 0
    assert len(await asyncio.gather(first, *waiting)) == WAITING_MAX + 1


async def test_a_search_that_was_given_up_is_not_done(dispatcher: Dispatcher, engine: Engine) -> None:
    """Its caller has gone; the others are answered."""
    first = await _held(dispatcher, engine)
    given_up, other = put(dispatcher, 1), put(dispatcher, 2)
    given_up.cancel()
    engine.free.set()
    await asyncio.gather(first, other)

    assert engine.batches == [[1000], [2]]
    assert dispatcher.dropped == 1


async def test_closing_answers_what_waits(engine: Engine) -> None:
    """And takes nothing more."""
    dispatcher = Dispatcher(engine.search, WAITING_MAX, inline=lambda: False)
    first = await _held(dispatcher, engine)
    waiting = put(dispatcher, 4)
    closing = asyncio.get_running_loop().run_in_executor(None, dispatcher.close)
    engine.free.set()

    await closing
    assert [int(answer.ids[0, 0]) for answer in await asyncio.gather(first, waiting)] == [1000, 4]
    with pytest.raises(OverloadedError, match="shutting down"):
        put(dispatcher, 1)
