"""The queue: one entry and one visit per key, delays, back-off."""

from __future__ import annotations

import asyncio
import random

from buffer_operator.errors import UnavailableError
from buffer_operator.queue import Backoff, Key, Schedule, WorkQueue

A, B = Key("ns", "a"), Key("ns", "b")


def test_a_key_is_queued_once() -> None:
    """Added twice, it is visited once."""
    schedule = Schedule()
    schedule.add(A, 0.0)
    schedule.add(A, 0.0)
    assert schedule.pop(0.0) == A
    schedule.done(A)
    assert schedule.pop(0.0) is None


def test_the_earlier_time_wins() -> None:
    """An event does not wait for the poll, and a poll does not put an event off."""
    schedule = Schedule()
    schedule.add(A, 30.0)
    schedule.add(A, 1.0)
    schedule.add(A, 20.0)
    assert schedule.pop(0.9) is None
    assert schedule.pop(1.0) == A
    schedule.done(A)
    assert schedule.pop(100.0) is None


def test_a_key_is_visited_by_one_worker_at_a_time() -> None:
    """Added during its visit, it is due again afterwards."""
    schedule = Schedule()
    schedule.add(A, 0.0)
    assert schedule.pop(0.0) == A
    schedule.add(A, 1.0)
    schedule.add(B, 2.0)
    assert schedule.pop(5.0) == B
    assert schedule.pop(5.0) is None
    assert schedule.next_at() is None
    schedule.done(A)
    assert schedule.next_at() == 1.0
    assert schedule.pop(5.0) == A


def test_who_has_waited_longest_comes_first() -> None:
    """Order is that of the due times."""
    schedule = Schedule()
    schedule.add(A, 2.0)
    schedule.add(B, 1.0)
    assert [schedule.pop(3.0), schedule.pop(3.0)] == [B, A]


def test_pauses_grow_are_capped_and_forgotten() -> None:
    """Doubling from the first pause to the longest, with at most half of it taken away by chance."""
    backoff = Backoff(1.0, 60.0, random.Random(7))
    pauses = [backoff.failed(A) for _ in range(40)]
    for failures, pause in enumerate(pauses):
        whole = min(60.0, 2.0**failures)
        assert whole / 2 <= pause <= whole
    assert 0.5 <= backoff.failed(B) <= 1.0
    backoff.succeeded(A)
    assert backoff.failed(A) <= 1.0


async def test_workers_visit_different_keys_at_the_same_time_and_repeat_failures() -> None:
    """A visit that raises comes again after a pause; another key is not held up by a slow one."""
    release, failed, seen = asyncio.Event(), asyncio.Event(), list[Key]()

    async def visit(key: Key) -> float | None:
        seen.append(key)
        if key == A:
            await release.wait()
        elif seen.count(B) == 1:
            raise RuntimeError("the first visit of b fails")
        else:
            failed.set()
        return None

    queue = WorkQueue(visit, Backoff(0.01, 0.02, random.Random(7)))
    workers = [asyncio.create_task(queue.work()) for _ in range(2)]
    queue.add(A)
    queue.add(B)
    async with asyncio.timeout(5):
        await failed.wait()
    assert seen == [A, B, B]
    release.set()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def test_a_server_that_asks_for_patience_is_not_asked_before() -> None:
    """However short the own pause would be."""
    began, again = asyncio.get_running_loop().time(), asyncio.Event()
    visits = list[float]()

    async def visit(_: Key) -> float | None:
        visits.append(asyncio.get_running_loop().time() - began)
        if len(visits) == 1:
            raise UnavailableError("too many requests", 0.2)
        again.set()
        return None

    queue = WorkQueue(visit, Backoff(0.001, 0.002, random.Random(7)))
    worker = asyncio.create_task(queue.work())
    queue.add(A)
    async with asyncio.timeout(5):
        await again.wait()
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert visits[1] - visits[0] >= 0.19


async def test_a_visit_that_asks_for_another_gets_it() -> None:
    """The returned delay is kept."""
    twice = asyncio.Event()
    visits = 0

    async def visit(_: Key) -> float | None:
        nonlocal visits
        visits += 1
        if visits == 2:
            twice.set()
        return 0.01 if visits == 1 else None

    queue = WorkQueue(visit, Backoff(1.0, 1.0, random.Random(7)))
    worker = asyncio.create_task(queue.work())
    queue.add(A)
    async with asyncio.timeout(5):
        await twice.wait()
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
