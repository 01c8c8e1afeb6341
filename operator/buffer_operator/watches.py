"""Label-selected watches of what belongs to buffers, and the resync. Both only put keys into the queue.

A watch that ends or breaks lists again; what was deleted meanwhile is noticed by the next visit, which reads everything
anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

from buffer_operator import labels, metrics
from buffer_operator.cluster import ApiCluster, Cluster
from buffer_operator.errors import OperatorError
from buffer_operator.kinds import BUFFER, CONFIG_MAP, JOB, POD, STATEFUL_SET, Json, Kind
from buffer_operator.queue import Key

log = logging.getLogger(__name__)

WATCHED: Final = (STATEFUL_SET, JOB, POD, CONFIG_MAP)
_PAUSE_FIRST_S: Final = 0.5
_PAUSE_MAX_S: Final = 30.0

Enqueue = Callable[[Key], None]


async def watch(cluster: ApiCluster, kind: Kind, namespace: str | None, enqueue: Enqueue) -> None:
    """Enqueue the buffer of each object of this kind that appears, changes or goes; runs until cancelled."""
    pause_s = _PAUSE_FIRST_S
    while True:
        started = time.monotonic()
        try:
            await _watch_once(cluster, kind, namespace, enqueue)
        except OperatorError as error:
            metrics.WATCH_RESTARTS.labels(kind.plural).inc()
            log.warning("watching %s again in about %.1f s: %s", kind.plural, pause_s, error)
        lived_s = time.monotonic() - started
        pause_s = _PAUSE_FIRST_S if lived_s > _PAUSE_MAX_S else min(_PAUSE_MAX_S, pause_s * 2)
        await asyncio.sleep(pause_s * (0.5 + random.random() / 2))  # noqa: S311 - jitter


async def _watch_once(cluster: ApiCluster, kind: Kind, namespace: str | None, enqueue: Enqueue) -> None:
    listing = await cluster.list_metadata(kind, namespace, labels.BUFFER)
    for item in listing.items:
        _enqueue(item, enqueue)
    async for event in cluster.watch_metadata(kind, namespace, labels.BUFFER, listing.resource_version):
        if event["type"] != "BOOKMARK":
            _enqueue(event["object"], enqueue)


def _enqueue(item: Json, enqueue: Enqueue) -> None:
    metadata = item["metadata"]
    buffer = metadata.get("labels", {}).get(labels.BUFFER)
    if buffer:
        enqueue(Key(metadata["namespace"], buffer))


class Resync:
    """Visits every buffer from time to time, and knows when that last worked."""

    def __init__(self, cluster: Cluster, scopes: tuple[str | None, ...], enqueue: Callable[[Key, float], None]) -> None:
        self._cluster = cluster
        self._scopes = scopes
        self._enqueue = enqueue
        self.last_good_at: float | None = None
        """Monotonic time in seconds; None before the first."""

    async def once(self, spread_s: float) -> None:
        """List every buffer and enqueue it within the next ``spread_s`` seconds; raises OperatorError."""
        for scope in self._scopes:
            for item in await self._cluster.list(BUFFER, scope, ""):
                metadata = item["metadata"]
                pause_s = random.random() * spread_s  # noqa: S311 - jitter
                self._enqueue(Key(metadata["namespace"], metadata["name"]), pause_s)
        self.last_good_at = time.monotonic()
        metrics.LAST_RESYNC.set_to_current_time()

    async def run(self, interval_s: float) -> None:
        """Resync for ever; runs until cancelled."""
        while True:
            await asyncio.sleep(interval_s * (0.9 + random.random() / 5))  # noqa: S311 - jitter
            try:
                await self.once(spread_s=min(30.0, interval_s / 10))
            except OperatorError as error:
                log.warning("the resync failed: %s", error)
