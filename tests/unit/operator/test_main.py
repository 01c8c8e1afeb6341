"""The process: parts that run for ever, and watches that come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from buffer_operator import labels, watches
from buffer_operator.cluster import Listing
from buffer_operator.errors import UnavailableError
from buffer_operator.kinds import POD, Json
from buffer_operator.main import Tasks
from buffer_operator.queue import Key


async def test_a_part_that_ends_ends_the_process_with_a_failure() -> None:
    """Kubernetes starts it anew; a part that is gone silently would be worse."""
    tasks = Tasks()
    tasks.start("stop", asyncio.Event().wait())

    async def breaks() -> None:
        raise RuntimeError("this part broke")

    tasks.start("part", breaks())
    assert await tasks.until_one_ends("stop") == 1
    await tasks.stop()


async def test_a_signal_ends_the_process_well() -> None:
    """Parts that still run are cancelled."""
    tasks, stop = Tasks(), asyncio.Event()
    tasks.start("stop", stop.wait())
    tasks.start("part", asyncio.Event().wait())
    stop.set()
    assert await tasks.until_one_ends("stop") == 0
    await tasks.stop()


async def test_a_broken_watch_lists_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of the list, of events and of the list after the break are all looked at; bookmarks are not."""
    monkeypatch.setattr(watches, "_PAUSE_FIRST_S", 0.01)
    seen, enough = list[Key](), asyncio.Event()

    def item(buffer: str) -> Json:
        return {"metadata": {"name": "x", "namespace": "ns", "labels": {labels.BUFFER: buffer}}}

    class Breaking:
        lists = 0

        async def list_metadata(self, *_: object) -> Listing:
            self.lists += 1
            return Listing([item(f"list-{self.lists}")], "7")

        async def watch_metadata(self, *_: object) -> AsyncIterator[Json]:
            yield {"type": "BOOKMARK", "object": {"metadata": {}}}
            yield {"type": "DELETED", "object": item("event")}
            raise UnavailableError("410")

    def enqueue(key: Key) -> None:
        seen.append(key)
        if len(seen) == 4:
            enough.set()

    watching = asyncio.create_task(watches.watch(Breaking(), POD, None, enqueue))  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        await enough.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert [key.name for key in seen] == ["list-1", "event", "list-2", "event"]
