"""The process: parts that run for ever, and watches that come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from buffer_operator.errors import UnavailableError
from buffer_operator.kube import labels, watches
from buffer_operator.kube.cache import Store
from buffer_operator.kube.cluster import Listing
from buffer_operator.kube.kinds import POD, Json, Kind
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


async def test_a_part_that_comes_to_its_end_makes_way_for_the_next() -> None:
    """Unless it failed, or another part ended while it was waited for."""
    tasks = Tasks()
    tasks.start("stop", asyncio.Event().wait())
    tasks.start("election", asyncio.sleep(0))
    assert await tasks.until_done("election", "stop") is None
    over = asyncio.Event()
    tasks.start("lease", over.wait())
    tasks.start("first list", asyncio.Event().wait())
    over.set()
    assert await tasks.until_done("first list", "stop") == 1
    await tasks.stop()


async def test_a_broken_watch_lists_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of the list, of events and of the list after the break are all looked at; bookmarks are not."""
    monkeypatch.setattr(watches, "_PAUSE_FIRST_S", 0.01)
    seen, enough, store = list[Key](), asyncio.Event(), Store()

    def item(buffer: str, version: int) -> Json:
        metadata = {"name": buffer, "namespace": "ns", "labels": {labels.BUFFER: buffer}}
        return {"metadata": {**metadata, "resourceVersion": str(version)}}

    class Breaking:
        lists = 0

        async def listing(self, *_: object) -> Listing:
            self.lists += 1
            return Listing([item(f"list-{self.lists}", 7)], str(7 + self.lists))

        async def watch(self, *_: object) -> AsyncIterator[Json]:
            yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}}
            yield {"type": "ADDED", "object": item("event", 8)}
            yield {"type": "DELETED", "object": item("event", 9)}
            raise UnavailableError("410")

    def enqueue(key: Key) -> None:
        seen.append(key)
        if len(seen) == 7:
            enough.set()

    watching = asyncio.create_task(watches.watch(Breaking(), POD, None, store, enqueue))
    async with asyncio.timeout(5):
        await enough.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert [key.name for key in seen] == ["list-1", "event", "event", "list-1", "list-2", "event", "event"]
    assert [item["metadata"]["name"] for item in store.of_buffer(Key("ns", "list-2"))] == ["list-2"]
    assert store.get("ns", "list-1") is None


async def test_a_watch_that_the_server_ends_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a list, from the version of the last event or bookmark."""
    monkeypatch.setattr(watches, "_PAUSE_FIRST_S", 0.01)
    versions, enough = list[str](), asyncio.Event()

    class Ending:
        lists = 0

        async def listing(self, *_: object) -> Listing:
            self.lists += 1
            return Listing([], "7")

        async def watch(self, _kind: Kind, _namespace: str | None, _selector: str, version: str) -> AsyncIterator[Json]:
            versions.append(version)
            if len(versions) == 3:
                enough.set()
                await asyncio.Event().wait()
            yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(int(version) + 1)}}}

    server = Ending()
    watching = asyncio.create_task(watches.watch(server, POD, None, Store(), lambda _: None))
    async with asyncio.timeout(5):
        await enough.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert (server.lists, versions) == (1, ["7", "8", "9"])
