"""Writes are put to the writer together, as soon as a look at the connections has brought no more."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest

from buffer_service.api.writes import Writes
from buffer_service.core.write import Write
from buffer_service.errors import OverloadedError


class Queue:
    """Takes writes in the writer's place, up to a number of them."""

    def __init__(self, room: int = 1000) -> None:
        self._room = room
        self.count = 0

    def put(self, _write: Write[Any]) -> None:
        """Take one."""
        if self.count == self._room:
            raise OverloadedError("no room")
        self.count += 1


def _write() -> Write[int]:
    return Write(lambda _: 1, Future())


async def test_what_comes_while_the_loop_looks_for_more_is_put_together() -> None:
    """One write each turn, and all at once after a turn that brings none."""
    queue = Queue()
    writes = Writes(queue)  # type: ignore[arg-type] # takes writes as the writer does
    for _ in range(5):
        writes.put(_write())
        assert queue.count == 0
        await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert queue.count == 5


async def test_one_write_alone_is_put_after_one_look() -> None:
    """It does not wait for others."""
    queue = Queue()
    Writes(queue).put(_write())  # type: ignore[arg-type]
    for _ in range(2):
        await asyncio.sleep(0)

    assert queue.count == 1


async def test_writes_that_never_end_do_not_keep_the_first_ones_waiting() -> None:
    """Beyond a number nobody looks for more."""
    queue = Queue()
    writes = Writes(queue)  # type: ignore[arg-type]
    for _ in range(200):
        writes.put(_write())
        await asyncio.sleep(0)

    assert queue.count > 100


async def test_before_a_search_begins_all_are_put_at_once_and_later_ones_later() -> None:
    """So that the writer works while the loop searches."""
    queue = Queue()
    writes = Writes(queue)  # type: ignore[arg-type]
    writes.put(_write())
    writes.put_all()
    assert queue.count == 1

    writes.put(_write())
    for _ in range(3):
        await asyncio.sleep(0)
    assert queue.count == 2


async def test_a_write_for_which_there_is_no_room_gets_the_error_and_the_others_go_on() -> None:
    """Each by itself."""
    writes = Writes(Queue(room=2))  # type: ignore[arg-type]
    made = [_write() for _ in range(3)]
    for write in made:
        writes.put(write)
    writes.put_all()

    with pytest.raises(OverloadedError):
        made[2].future.result(0)  # type: ignore[union-attr] # it was made with a future
    assert not any(write.settled for write in made[:2])
