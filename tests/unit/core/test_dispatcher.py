"""Searches of many callers: batched by what waits, each answered with its own rows, refused when too many wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import faiss
import numpy as np
import pytest

from buffer_service.core import dispatcher as dispatcher_module
from buffer_service.core.dispatcher import Dispatcher, Search
from buffer_service.core.pace import BATCH_ROWS_MAX, INLINE_MAX_S, INLINE_ROW_MAX_S, INLINE_SHORT_S, TEAM_ROWS_MIN
from buffer_service.errors import InvalidRequestError, OverloadedError
from buffer_service.index import openmp
from buffer_service.index.main import TUNED, Effort
from buffer_service.index.metric import Vectors
from buffer_service.index.view import Found

WAITING_MAX = 100


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


def _put(
    dispatcher: Dispatcher, number: int, rows: int = 1, k: int = 2, effort: Effort = TUNED
) -> asyncio.Future[Found]:
    future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
    dispatcher.put(Search(np.full((rows, 1), number, np.float32), k, effort, future))
    return future


async def _held(dispatcher: Dispatcher, engine: Engine) -> asyncio.Future[Found]:
    """Return a search with which the engine is busy from here on."""
    engine.free.clear()
    first = _put(dispatcher, 1000)
    assert await asyncio.to_thread(engine.begun.acquire, timeout=10)
    return first


async def test_a_search_alone_does_not_wait(dispatcher: Dispatcher, engine: Engine) -> None:
    """Nothing is held back to fill a batch."""
    found = await asyncio.wait_for(_put(dispatcher, 5), 10)

    assert (found.ids.tolist(), found.sequence, found.generation) == ([[5, 5]], 7, 3)
    assert engine.batches == [[5]]


async def test_what_waits_while_the_engine_is_busy_goes_as_one_batch(dispatcher: Dispatcher, engine: Engine) -> None:
    """And each caller gets the rows of its own queries."""
    first = await _held(dispatcher, engine)
    waiting = [_put(dispatcher, number, rows=number) for number in range(1, 6)]
    engine.free.set()

    answers = await asyncio.gather(first, *waiting)

    assert [answer.ids[:, 0].tolist() for answer in answers[1:]] == [[number] * number for number in range(1, 6)]
    assert [len(batch) for batch in engine.batches] == [1, 15]


async def test_a_batch_is_bounded_and_what_is_left_goes_next(dispatcher: Dispatcher, engine: Engine) -> None:
    """So that nobody waits for a batch of thousands."""
    first = await _held(dispatcher, engine)
    waiting = [_put(dispatcher, number, rows=BATCH_ROWS_MAX // 2) for number in range(5)]
    engine.free.set()
    answers = await asyncio.gather(first, *waiting)

    assert [int(answer.ids[0, 0]) for answer in answers[1:]] == list(range(5))
    assert max(len(batch) for batch in engine.batches) == BATCH_ROWS_MAX


async def test_only_searches_of_one_kind_share_a_call(dispatcher: Dispatcher, engine: Engine) -> None:
    """Another k, or another effort, is a call of its own."""
    first = await _held(dispatcher, engine)
    waiting = [_put(dispatcher, 1, k=3), _put(dispatcher, 2, k=4), _put(dispatcher, 3, k=3, effort=Effort(probes=9))]
    engine.free.set()
    answers = await asyncio.gather(first, *waiting)

    assert [answer.ids.shape[1] for answer in answers[1:]] == [3, 4, 3]
    assert engine.batches[1:] == [[1], [2], [3]]


async def test_a_bad_query_harms_no_other(dispatcher: Dispatcher, engine: Engine) -> None:
    """The batch that it spoils is done again, one by one."""
    first = await _held(dispatcher, engine)
    good, bad, other = _put(dispatcher, 1), _put(dispatcher, -2), _put(dispatcher, 3)
    engine.free.set()
    await first

    assert [int((await future).ids[0, 0]) for future in (good, other)] == [1, 3]
    with pytest.raises(InvalidRequestError, match="negative"):
        await bad


async def test_too_many_waiting_are_refused_with_a_time_to_come_back(dispatcher: Dispatcher, engine: Engine) -> None:
    """The queue is bounded, and nothing that was taken is lost."""
    first = await _held(dispatcher, engine)
    waiting = [_put(dispatcher, number) for number in range(WAITING_MAX)]
    with pytest.raises(OverloadedError) as refused:
        _put(dispatcher, 1)
    engine.free.set()

    assert refused.value.retry_after_s > 0
    assert len(await asyncio.gather(first, *waiting)) == WAITING_MAX + 1


async def test_a_search_that_was_given_up_is_not_done(dispatcher: Dispatcher, engine: Engine) -> None:
    """Its caller has gone; the others are answered."""
    first = await _held(dispatcher, engine)
    given_up, other = _put(dispatcher, 1), _put(dispatcher, 2)
    given_up.cancel()
    engine.free.set()
    await asyncio.gather(first, other)

    assert engine.batches == [[1000], [2]]
    assert dispatcher.dropped == 1


async def test_closing_answers_what_waits(engine: Engine) -> None:
    """And takes nothing more."""
    dispatcher = Dispatcher(engine.search, WAITING_MAX, inline=lambda: False)
    first = await _held(dispatcher, engine)
    waiting = _put(dispatcher, 4)
    closing = asyncio.get_running_loop().run_in_executor(None, dispatcher.close)
    engine.free.set()

    await closing
    assert [int(answer.ids[0, 0]) for answer in await asyncio.gather(first, waiting)] == [1000, 4]
    with pytest.raises(OverloadedError, match="shutting down"):
        _put(dispatcher, 1)


class Clock:
    """Time that passes by ``row_s`` for each row that is searched."""

    def __init__(self, row_s: float) -> None:
        self.now = 0.0
        self.row_s = row_s
        self.on: list[tuple[bool, int]] = []
        """Whether a batch was searched on the loop's thread, and its rows."""

    def search(self, queries: Vectors, k: int, effort: Effort) -> Found:
        """Take the time."""
        del effort
        self.on.append((threading.current_thread() is threading.main_thread(), len(queries)))
        self.now += self.row_s * len(queries)
        ids = np.repeat(queries[:, :1].astype(np.int64), k, axis=1)
        return Found(ids, ids.astype(np.float32), 7, 3)


@asynccontextmanager
async def _inline(clock: Clock, waiting_max: int = WAITING_MAX) -> AsyncIterator[Dispatcher]:
    made = Dispatcher(clock.search, waiting_max, inline=lambda: True, clock=lambda: clock.now)
    yield made
    made.close()


async def test_short_searches_of_one_turn_are_one_batch_on_the_loop() -> None:
    """And each gets its own answer."""
    clock = Clock(row_s=INLINE_ROW_MAX_S / 2)
    async with _inline(clock) as dispatcher:
        for _ in range(2):
            found = await asyncio.gather(*[_put(dispatcher, number) for number in range(9)])
            assert [int(answer.ids[0, 0]) for answer in found] == list(range(9))

        assert clock.on == [(True, 9), (True, 9)]
        assert (dispatcher.batches, dispatcher.rows) == (2, 18)


async def test_what_comes_before_the_loop_has_nothing_else_to_do_is_of_the_same_batch() -> None:
    """A search that waits for one that has just begun waits for two."""
    clock = Clock(row_s=INLINE_ROW_MAX_S / 2)
    async with _inline(clock) as dispatcher:
        found = []
        for number in range(5):
            found.append(_put(dispatcher, number))
            await asyncio.sleep(0)
        assert [int(answer.ids[0, 0]) for answer in await asyncio.gather(*found)] == list(range(5))

        assert clock.on == [(True, 5)]


async def test_a_batch_that_is_full_begins_though_more_is_coming() -> None:
    """So that nobody waits for good."""
    clock = Clock(row_s=0.0)
    async with _inline(clock) as dispatcher:
        found = []
        for number in range(BATCH_ROWS_MAX + 5):
            found.append(_put(dispatcher, number))
            await asyncio.sleep(0)
        await asyncio.gather(*found)

        assert [rows for _, rows in clock.on] == [BATCH_ROWS_MAX, 5]


@pytest.mark.parametrize(
    ("row_s", "many"),
    [
        (1.1 * INLINE_SHORT_S, 1),
        (1.1 * INLINE_ROW_MAX_S, 8),
        (0.9 * INLINE_ROW_MAX_S, int(1.2 * INLINE_MAX_S / INLINE_ROW_MAX_S)),
    ],
    ids=["a long search", "long ones together", "short ones that are many"],
)
async def test_what_would_hold_up_the_loop_goes_to_the_thread(row_s: float, many: int) -> None:
    """Known from the first batch of its size on; what came in one turn is still done at once."""
    clock = Clock(row_s)
    async with _inline(clock) as dispatcher:
        for _ in range(3):
            await asyncio.gather(*[_put(dispatcher, number) for number in range(many)])

        assert clock.on[0] == (True, many)
        assert not any(on_loop for on_loop, _ in clock.on[1:])
        assert sum(rows for _, rows in clock.on[1:]) == 2 * many


async def test_what_other_threads_work_on_goes_before_a_search_on_the_loop() -> None:
    """A write that came in the same turn does not wait for the searches."""
    clock, order = Clock(row_s=0.0), list[str]()

    def search(queries: Vectors, k: int, effort: Effort) -> Found:
        order.append("search")
        return clock.search(queries, k, effort)

    made = Dispatcher(search, WAITING_MAX, inline=lambda: True, before=lambda: order.append("before"))
    await _put(made, 1)
    made.close()

    assert order == ["before", "search"]


async def test_one_stall_does_not_send_searches_to_the_thread() -> None:
    """As when the machine takes the core away for a while."""
    clock = Clock(row_s=INLINE_SHORT_S / 2)
    async with _inline(clock) as dispatcher:
        for row_s in (INLINE_SHORT_S / 2, 100 * INLINE_SHORT_S, INLINE_SHORT_S / 2):
            clock.row_s = row_s
            await _put(dispatcher, 1)

        assert clock.on == 3 * [(True, 1)]


async def test_searches_that_have_become_long_go_to_the_thread() -> None:
    """Within a few batches, though they were short for long."""
    clock = Clock(row_s=INLINE_SHORT_S / 2)
    async with _inline(clock) as dispatcher:
        for number in range(20):
            clock.row_s = INLINE_SHORT_S / 2 if number < 10 else 2 * INLINE_SHORT_S
            await _put(dispatcher, 1)

        assert [on_loop for on_loop, _ in clock.on] == 14 * [True] + 6 * [False]


async def test_what_is_known_of_large_batches_says_nothing_of_small_ones() -> None:
    """A query alone takes longer than one of many, and a batch longer than one alone."""
    clock = Clock(row_s=2 * INLINE_SHORT_S)
    async with _inline(clock) as dispatcher:
        await _put(dispatcher, 1)
        clock.row_s = INLINE_ROW_MAX_S / 4
        await asyncio.gather(*[_put(dispatcher, number) for number in range(20)])

        assert clock.on == [(True, 1), (True, 20)]


async def test_more_than_a_batch_goes_to_the_thread() -> None:
    """However short a row is."""
    clock = Clock(row_s=0.0)
    async with _inline(clock) as dispatcher:
        await asyncio.gather(*[_put(dispatcher, number, rows=BATCH_ROWS_MAX) for number in range(2)])

        assert [on_loop for on_loop, _ in clock.on] == [False, False]


async def test_the_loop_is_tried_again_after_searches_have_become_short() -> None:
    """As when the index changed, or what was read from disk is in memory."""
    clock = Clock(row_s=1.1 * INLINE_SHORT_S)
    async with _inline(clock) as dispatcher:
        for _ in range(12):
            await _put(dispatcher, 1)
            clock.row_s = 0.0

        assert [on_loop for on_loop, _ in clock.on[:10]] == [True] + 9 * [False]
        assert clock.on[-1] == (True, 1)


async def test_too_many_in_one_turn_are_refused() -> None:
    """The bound holds on the loop, too."""
    async with _inline(Clock(0.0), waiting_max=2) as dispatcher:
        taken = [_put(dispatcher, 1), _put(dispatcher, 2)]
        with pytest.raises(OverloadedError):
            _put(dispatcher, 3)

        assert len(await asyncio.gather(*taken)) == 2


async def test_what_came_in_the_turn_of_a_close_is_answered() -> None:
    """Though the thread has ended."""
    clock = Clock(row_s=2 * INLINE_SHORT_S)
    async with _inline(clock) as dispatcher:
        await _put(dispatcher, 1)
        last = _put(dispatcher, 2)

    assert int((await last).ids[0, 0]) == 2


class Threads:
    """Notes over how many threads FAISS would spread each search; a team takes half as long."""

    def __init__(self, rows: int = 0) -> None:
        self.now = 0.0
        self.rows = rows
        self.used: list[int] = []

    def search(self, queries: Vectors, k: int, effort: Effort) -> Found:
        """Take the time."""
        del effort
        openmp.prepare_thread(self.rows)
        self.used.append(faiss.omp_get_max_threads())
        self.now += INLINE_ROW_MAX_S * len(queries) / 2 / self.used[-1]
        ids = np.repeat(queries[:, :1].astype(np.int64), k, axis=1)
        return Found(ids, ids.astype(np.float32), 7, 3)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of two cores, where threads give up what they do not use at once."""
    monkeypatch.setattr(openmp, "cores", lambda: 2)
    monkeypatch.setattr(dispatcher_module, "_IDLE_S", 0.0)
    openmp.use_threads(0)
    yield
    openmp.use_threads(1)


def _spread_on_a_thread() -> bool:
    may = openmp.spread(small=True)
    openmp.give_up()
    return may


async def _others_may_spread() -> None:
    """Wait until another thread may."""
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(_spread_on_a_thread):
            pass


@pytest.mark.usefixtures("two_cores")
async def test_the_loop_searches_with_a_team_once_it_knows_what_a_batch_takes_alone() -> None:
    """Where there are enough queries for that; and it keeps the cores no longer than it has searches."""
    threads = Threads()
    made = Dispatcher(threads.search, WAITING_MAX, inline=lambda: True, clock=lambda: threads.now)
    for _ in range(3):
        await asyncio.gather(*[_put(made, number) for number in range(TEAM_ROWS_MIN)])
    await _put(made, 1)

    assert threads.used == [1, 2, 2, 1]
    threads.now += 1.0
    await _others_may_spread()
    made.close()


@pytest.mark.usefixtures("two_cores")
async def test_the_loop_searches_alone_while_another_thread_needs_a_core() -> None:
    """Such as the writer: a team would wait for it."""
    threads, writing = Threads(), [False]
    made = Dispatcher(
        threads.search, WAITING_MAX, inline=lambda: True, disturbed=lambda: writing[0], clock=lambda: threads.now
    )
    for writing[0] in (False, False, True, True, False):
        await asyncio.gather(*[_put(made, number) for number in range(TEAM_ROWS_MIN)])
    made.close()

    assert threads.used == [1, 2, 1, 1, 2]


@pytest.mark.usefixtures("two_cores")
async def test_the_thread_spreads_what_compares_many_rows_and_gives_the_cores_up_when_idle() -> None:
    """So that the loop may have them."""
    threads = Threads(openmp.MANY_ROWS)
    made = Dispatcher(threads.search, WAITING_MAX, inline=lambda: False)
    await _put(made, 1)

    assert threads.used == [2]
    await _others_may_spread()
    made.close()


@pytest.mark.usefixtures("two_cores")
async def test_the_loop_searches_alone_while_others_have_the_cores() -> None:
    """And finds the same."""
    threads = Threads()
    made = Dispatcher(threads.search, WAITING_MAX, inline=lambda: True, clock=lambda: threads.now)
    taken, done = threading.Event(), threading.Event()

    def keep() -> None:
        assert openmp.spread(small=True)
        taken.set()
        done.wait(10)
        openmp.give_up()

    keeping = threading.Thread(target=keep)
    keeping.start()
    assert taken.wait(10)
    for _ in range(2):
        found = await asyncio.gather(*[_put(made, number) for number in range(9)])
        assert [int(answer.ids[0, 0]) for answer in found] == list(range(9))
    done.set()
    keeping.join()
    made.close()

    assert threads.used == [1, 1]
