"""What the watches have seen, as a reader: it may say that nothing is to be done, and never what is to be done.

Whoever finds something to do here looks again at the API server and decides by that (``Cache.authoritative``). So an
object that is late or a ghost costs a look, never a write. Objects of kinds that are not watched (Secrets: the operator
may not list them) are those of the last authoritative look, for ``KEPT_S``.

Objects are kept as JSON without ``managedFields``: a tenth of the memory of dictionaries, and nobody can change what
others will read. Owned by the main event loop.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from buffer_operator.kube import labels
from buffer_operator.kube.cluster import Listing, Reader
from buffer_operator.kube.kinds import BUFFER, Json, Kind
from buffer_operator.queue import Key

KEPT_S: Final = 60.0


class _Entry(NamedTuple):
    version: int
    buffer: str
    content: bytes


class _Kept(NamedTuple):
    at: float
    content: bytes | None


class Store:
    """The objects of one kind, by namespace and name."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._of_buffer: dict[Key, set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, item: Json) -> None:
        """Keep an object, unless a later version of it is here already."""
        metadata = item["metadata"]
        place = (metadata["namespace"], metadata["name"])
        entry = _Entry(_version(metadata.get("resourceVersion")), buffer_of(item), _encoded(item))
        held = self._entries.get(place)
        if held is not None:
            if held.version > entry.version:
                return
            self.drop(*place)
        self._entries[place] = entry
        self._of_buffer[Key(place[0], entry.buffer)].add(place[1])

    def drop(self, namespace: str, name: str) -> None:
        """Forget an object."""
        entry = self._entries.pop((namespace, name), None)
        if entry is not None:
            key = Key(namespace, entry.buffer)
            self._of_buffer[key].discard(name)
            if not self._of_buffer[key]:
                del self._of_buffer[key]

    def replace(self, listing: Listing, namespace: str | None) -> set[Key]:
        """Hold what the list holds; returns the buffers of what is no longer there, which nobody may have told us.

        What is newer than the list stays: a watch was faster.
        """
        listed = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in listing.items}
        version, gone = _version(listing.resource_version), set()
        for place, entry in list(self._entries.items()):
            if place not in listed and namespace in (None, place[0]) and entry.version <= version:
                gone.add(Key(place[0], entry.buffer))
                self.drop(*place)
        for item in listing.items:
            self.put(item)
        return gone

    def get(self, namespace: str, name: str) -> Json | None:
        """Return a copy of an object."""
        entry = self._entries.get((namespace, name))
        return _decoded(entry.content) if entry else None

    def of_buffer(self, key: Key) -> list[Json]:
        """Return copies of the objects that belong to a buffer, by name."""
        names = sorted(self._of_buffer.get(key, ()))
        return [_decoded(self._entries[key.namespace, name].content) for name in names]


class Cache:
    """One ``Store`` for each watched kind, and what else was seen; implements ``Reader``."""

    def __init__(self, live: Reader, kinds: Iterable[Kind], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._live = live
        self._monotonic = monotonic
        self._kept: dict[tuple[Kind, str, str], _Kept] = {}
        self.stores = {kind: Store() for kind in kinds}

    def authoritative(self) -> Reader:
        """Return a reader of the API server whose answers are kept where no watch tells of changes."""
        return _Authoritative(self._live, self)

    async def knows(self, kind: Kind) -> bool:
        """See Reader."""
        return await self._live.knows(kind)

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """See Reader."""
        if kind in self.stores:
            return self.stores[kind].get(namespace, name)
        kept = self._kept.get((kind, namespace, name))
        if kept is not None and self._monotonic() - kept.at < KEPT_S:
            return None if kept.content is None else _decoded(kept.content)
        return await self.authoritative().get(kind, namespace, name)

    async def list(self, kind: Kind, namespace: str | None, selector: str) -> list[Json]:
        """See Reader. Asks the API server where it is not for the objects of one buffer."""
        label, _, buffer = selector.partition("=")
        if kind in self.stores and namespace is not None and label == labels.BUFFER:
            return self.stores[kind].of_buffer(Key(namespace, buffer))
        return await self._live.list(kind, namespace, selector)

    def keep(self, kind: Kind, namespace: str, name: str, found: Json | None) -> None:
        """Note what the API server answered about an object that no watch tells of."""
        if kind not in self.stores:
            content = None if found is None else _encoded(found)
            self._kept[kind, namespace, name] = _Kept(self._monotonic(), content)

    def forget(self, key: Key) -> None:
        """Forget a buffer that is gone, and what was kept for it."""
        self.stores[BUFFER].drop(key.namespace, key.name)
        stale = self._monotonic() - KEPT_S
        self._kept = {place: kept for place, kept in self._kept.items() if kept.at > stale}


class _Authoritative:
    """The API server; what it answers is kept. Implements ``Reader``."""

    def __init__(self, live: Reader, cache: Cache) -> None:
        self._live = live
        self._cache = cache

    async def knows(self, kind: Kind) -> bool:
        """See Reader."""
        return await self._live.knows(kind)

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """See Reader."""
        found = await self._live.get(kind, namespace, name)
        self._cache.keep(kind, namespace, name, found)
        return found

    async def list(self, kind: Kind, namespace: str | None, selector: str) -> list[Json]:
        """See Reader."""
        return await self._live.list(kind, namespace, selector)


def buffer_of(item: Json) -> str:
    """Return the name of the buffer that an object is or belongs to, empty where its labels name none."""
    if item.get("kind") == BUFFER.name:
        return str(item["metadata"]["name"])
    found: str = (item["metadata"].get("labels") or {}).get(labels.BUFFER, "")
    return found


def _version(text: str | None) -> int:
    """Return a resourceVersion as a number: of one kind, a higher one is later."""
    return int(text) if text and text.isdecimal() else 0


def _encoded(item: Json) -> bytes:
    metadata = {name: value for name, value in item["metadata"].items() if name != "managedFields"}
    return msgspec.json.encode({**item, "metadata": metadata})


def _decoded(content: bytes) -> Json:
    found: Json = msgspec.json.decode(content)
    return found
