"""Watches of the buffers and, by label, of what belongs to them, and the resync: they fill the cache and the queue.

A watch that the server ends goes on where it was. One that breaks, is refused or has been silent for too long lists
again; what was deleted meanwhile is then missing from the list, and its buffer is visited.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from buffer_operator import metrics
from buffer_operator.errors import OperatorError
from buffer_operator.kube import labels
from buffer_operator.kube.cache import Store, buffer_of
from buffer_operator.kube.cluster import Listing
from buffer_operator.kube.kinds import (
    BUFFER,
    CLAIM,
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    JOB,
    NETWORK_POLICY,
    POD,
    ROLE,
    ROLE_BINDING,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Json,
    Kind,
)
from buffer_operator.queue import Key

log = logging.getLogger(__name__)

WATCHED: Final = (
    BUFFER,
    STATEFUL_SET,
    JOB,
    POD,
    CONFIG_MAP,
    CLAIM,
    SERVICE,
    SERVICE_ACCOUNT,
    ROLE,
    ROLE_BINDING,
    NETWORK_POLICY,
    DISRUPTION_BUDGET,
)
_PAUSE_FIRST_S: Final = 0.5
_PAUSE_MAX_S: Final = 10.0
_LIVED_S: Final = 2.0
"""A watch that went on for longer was no failure from the start."""

Enqueue = Callable[[Key], None]


class Lister(Protocol):
    """What the resync needs of an API server; see ``ApiCluster``."""

    async def listing(self, kind: Kind, namespace: str | None, selector: str) -> Listing:
        """Return the objects, and where to start watching."""


class Watcher(Lister, Protocol):
    """What a watch needs of it."""

    def watch(self, kind: Kind, namespace: str | None, selector: str, resource_version: str) -> AsyncIterator[Json]:
        """Yield what happens from there on."""


async def watch(cluster: Watcher, kind: Kind, namespace: str | None, store: Store, enqueue: Enqueue) -> None:
    """Keep the store as the API server has it, and enqueue the buffer of each object that appears, changes or goes.

    Runs until cancelled.
    """
    pause_s, version = _PAUSE_FIRST_S, ""
    while True:
        started = time.monotonic()
        try:
            if not version:
                version = await _list_anew(cluster, kind, namespace, store, enqueue)
            version = await _follow(cluster, kind, namespace, version, store, enqueue)
        except OperatorError as error:
            version = ""
            metrics.WATCH_RESTARTS.labels(kind.plural).inc()
            log.warning("the watch of %s has to begin anew: %s", kind.plural, error)
        lived_s = time.monotonic() - started
        if version and lived_s > _LIVED_S:
            continue
        pause_s = _PAUSE_FIRST_S if lived_s > _LIVED_S else pause_s
        await asyncio.sleep(pause_s * (0.5 + random.random() / 2))  # noqa: S311 - jitter
        pause_s = min(_PAUSE_MAX_S, pause_s * 2)


async def _list_anew(cluster: Watcher, kind: Kind, namespace: str | None, store: Store, enqueue: Enqueue) -> str:
    listing = await cluster.listing(kind, namespace, _selector(kind))
    for key in store.replace(listing, namespace):
        enqueue(key)
    for item in listing.items:
        enqueue(Key(item["metadata"]["namespace"], buffer_of(item)))
    return listing.resource_version


async def _follow(
    cluster: Watcher, kind: Kind, namespace: str | None, version: str, store: Store, enqueue: Enqueue
) -> str:
    """Follow until the server ends the stream; returns where to go on."""
    async for event in cluster.watch(kind, namespace, _selector(kind), version):
        item = event["object"]
        version = item["metadata"]["resourceVersion"]
        if event["type"] == "BOOKMARK":
            continue
        if event["type"] == "DELETED":
            store.drop(item["metadata"]["namespace"], item["metadata"]["name"])
        else:
            store.put(item)
        enqueue(Key(item["metadata"]["namespace"], buffer_of(item)))
    return version


def _selector(kind: Kind) -> str:
    return "" if kind == BUFFER else labels.BUFFER


class Resync:
    """Visits every buffer from time to time, and knows when that last worked."""

    def __init__(
        self,
        cluster: Lister,
        scopes: tuple[str | None, ...],
        store: Store,
        enqueue: Callable[[Key, float], None],
    ) -> None:
        self._cluster = cluster
        self._scopes = scopes
        self._buffers = store
        self._enqueue = enqueue
        self.last_good_at: float | None = None
        """Monotonic time in seconds; None before the first."""

    async def once(self, spread_s: float) -> None:
        """List every buffer and enqueue it within the next ``spread_s`` seconds; raises OperatorError.

        A buffer that is gone without a word from the watch is enqueued, too.
        """
        for scope in self._scopes:
            listing = await self._cluster.listing(BUFFER, scope, "")
            listed = {Key(item["metadata"]["namespace"], item["metadata"]["name"]) for item in listing.items}
            for key in listed | self._buffers.replace(listing, scope):
                self._enqueue(key, random.random() * spread_s)  # noqa: S311 - jitter
        self.last_good_at = time.monotonic()
        metrics.LAST_RESYNC.set_to_current_time()

    async def run(self, interval_s: float) -> None:
        """Resync for ever; runs until cancelled."""
        while True:
            await asyncio.sleep(interval_s * (0.9 + random.random() / 5))  # noqa: S311 - jitter
            try:
                await self.once(spread_s=interval_s / 2)
            except OperatorError as error:
                log.warning("the resync failed: %s", error)
