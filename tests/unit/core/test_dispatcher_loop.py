"""Short searches are done on the event loop, those of one turn as one batch; long ones go to the thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from buffer_service.core.dispatcher import Dispatcher
from buffer_service.core.pace import BATCH_ROWS_MAX, INLINE_MAX_S, INLINE_ROW_MAX_S, INLINE_SHORT_S
from buffer_service.errors import OverloadedError
from buffer_service.index.main import Effort
from buffer_service.index.metric import Vectors
from buffer_service.index.view import Found
from tests.helpers.searches import WAITING_MAX, put


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
            found = await asyncio.gather(*[put(dispatcher, number) for number in range(9)])
            assert [int(answer.ids[0, 0]) for answer in found] == list(range(9))

        assert clock.on == [(True, 9), (True, 9)]
        assert (dispatcher.batches, dispatcher.rows) == (2, 18)


async def test_what_comes_before_the_loop_has_nothing_else_to_do_is_of_the_same_batch() -> None:
    """A search that waits for one that has just begun waits for two."""
    clock = Clock(row_s=INLINE_ROW_MAX_S / 2)
    async with _inline(clock) as dispatcher:
        found = []
        for number in range(5):
            found.append(put(dispatcher, number))
            await asyncio.sleep(0)
        assert [int(answer.ids[0, 0]) for answer in await asyncio.gather(*found)] == list(range(5))

        assert clock.on == [(True, 5)]


async def test_a_batch_that_is_full_begins_though_more_is_coming() -> None:
    """So that nobody waits for good."""
    clock = Clock(row_s=0.0)
    async with _inline(clock) as dispatcher:
        found = []
        for number in range(BATCH_ROWS_MAX + 5):
            found.append(put(dispatcher, number))
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
            await asyncio.gather(*[put(dispatcher, number) for number in range(many)])

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
    await put(made, 1)
    made.close()

    assert order == ["before", "search"]


async def test_one_stall_does_not_send_searches_to_the_thread() -> None:
    """As when the machine takes the core away for a while."""
    clock = Clock(row_s=INLINE_SHORT_S / 2)
    async with _inline(clock) as dispatcher:
        for row_s in (INLINE_SHORT_S / 2, 100 * INLINE_SHORT_S, INLINE_SHORT_S / 2):
            clock.row_s = row_s
            await put(dispatcher, 1)

        assert clock.on == 3 * [(True, 1)]


async def test_searches_that_have_become_long_go_to_the_thread() -> None:
    """Within a few batches, though they were short for long."""
    clock = Clock(row_s=INLINE_SHORT_S / 2)
    async with _inline(clock) as dispatcher:
        for number in range(20):
            clock.row_s = INLINE_SHORT_S / 2 if number < 10 else 2 * INLINE_SHORT_S
            await put(dispatcher, 1)

        assert [on_loop for on_loop, _ in clock.on] == 14 * [True] + 6 * [False]


async def test_what_is_known_of_large_batches_says_nothing_of_small_ones() -> None:
    """A query alone takes longer than one of many, and a batch longer than one alone."""
    clock = Clock(row_s=2 * INLINE_SHORT_S)
    async with _inline(clock) as dispatcher:
        await put(dispatcher, 1)
        clock.row_s = INLINE_ROW_MAX_S / 4
        await asyncio.gather(*[put(dispatcher, number) for number in range(20)])

        assert clock.on == [(True, 1), (True, 20)]


async def test_more_than_a_batch_goes_to_the_thread() -> None:
    """However short a row is."""
    clock = Clock(row_s=0.0)
    async with _inline(clock) as dispatcher:
        await asyncio.gather(*[put(dispatcher, number, rows=BATCH_ROWS_MAX) for number in range(2)])

        assert [on_loop for on_loop, _ in clock.on] == [False, False]


async def test_the_loop_is_tried_again_after_searches_have_become_short() -> None:
    """As when the index changed, or what was read from disk is in memory."""
    clock = Clock(row_s=1.1 * INLINE_SHORT_S)
    async with _inline(clock) as dispatcher:
        for _ in range(12):
            await put(dispatcher, 1)
            clock.row_s = 0.0

        assert [on_loop for on_loop, _ in clock.on[:10]] == [True] + 9 * [False]
        assert clock.on[-1] == (True, 1)


async def test_too_many_in_one_turn_are_refused() -> None:
    """The bound holds on the loop, too."""
    async with _inline(Clock(0.0), waiting_max=2) as dispatcher:
        taken = [put(dispatcher, 1), put(dispatcher, 2)]
        with pytest.raises(OverloadedError):
            put(dispatcher, 3)

        assert len(await asyncio.gather(*taken)) == 2


async def test_what_came_in_the_turn_of_a_close_is_answered() -> None:
    """Though the thread has ended."""
    clock = Clock(row_s=2 * INLINE_SHORT_S)
    async with _inline(clock) as dispatcher:
        await put(dispatcher, 1)
        last = put(dispatcher, 2)

    assert int((await last).ids[0, 0]) == 2
