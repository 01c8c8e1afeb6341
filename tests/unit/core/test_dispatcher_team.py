"""Batches are done by a team of threads where there are cores for it, which are given up when it rests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import faiss
import numpy as np
import pytest

from buffer_service.core import dispatcher as dispatcher_module
from buffer_service.core.dispatcher import Dispatcher
from buffer_service.core.pace import INLINE_ROW_MAX_S, TEAM_ROWS_MIN
from buffer_service.index import openmp
from buffer_service.index.main import Effort
from buffer_service.index.metric import Vectors
from buffer_service.index.view import Found
from tests.helpers.searches import WAITING_MAX, put


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
        await asyncio.gather(*[put(made, number) for number in range(TEAM_ROWS_MIN)])
    await put(made, 1)

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
        await asyncio.gather(*[put(made, number) for number in range(TEAM_ROWS_MIN)])
    made.close()

    assert threads.used == [1, 2, 1, 1, 2]


@pytest.mark.usefixtures("two_cores")
async def test_the_thread_spreads_what_compares_many_rows_and_gives_the_cores_up_when_idle() -> None:
    """So that the loop may have them."""
    threads = Threads(openmp.MANY_ROWS)
    made = Dispatcher(threads.search, WAITING_MAX, inline=lambda: False)
    await put(made, 1)

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
        found = await asyncio.gather(*[put(made, number) for number in range(9)])
        assert [int(answer.ids[0, 0]) for answer in found] == list(range(9))
    done.set()
    keeping.join()
    made.close()

    assert threads.used == [1, 1]
