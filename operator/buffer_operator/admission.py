"""How many rebuilds run at once over all buffers, and whose turn is next.

The truth is in the API server: Jobs that are active, and ``status.rebuild.waitingSince`` of the buffers that wait. So a
new operator process goes on where the last one ended. A rebuild that this process is just starting, whose Job cannot be
listed yet, counts as well. Owned by the main event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from buffer_operator.kube import labels
from buffer_operator.kube.cluster import Cluster
from buffer_operator.kube.kinds import BUFFER, JOB, Json
from buffer_operator.kube.labels import Component
from buffer_operator.queue import Key
from buffer_operator.resource.conditions import parse_timestamp

_SNAPSHOT_S: Final = 1.0
"""With hundreds of buffers that wait, each looks every few seconds: they share what was listed."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Who rebuilds and who waits."""

    running: frozenset[Key]
    waiting: Mapping[Key, float]
    """Unix time in seconds since when each has waited."""


def its_turn(key: Key, since: float, snapshot: Snapshot, starting: Collection[Key], limit: int) -> bool:
    """Whether a buffer that has waited since then may start now: those that have waited longer go first. Pure."""
    busy = (snapshot.running | frozenset(starting)) - {key}
    ahead = sum((other_since, other) < (since, key) for other, other_since in snapshot.waiting.items() if other != key)
    ahead -= sum((snapshot.waiting[other], other) < (since, key) for other in busy if other in snapshot.waiting)
    return len(busy) + ahead < limit


class Admission:
    """Admits rebuilds, at most ``limit`` at once.

    ``scopes`` are the namespaces that are watched, or None for all; ``clock`` returns Unix time in seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        scopes: tuple[str | None, ...],
        limit: int,
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._scopes = scopes
        self._limit = limit
        self._clock = clock
        self._starting: set[Key] = set()
        self._snapshot: tuple[float, Snapshot] | None = None
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, key: Key, since: float) -> AsyncIterator[bool]:
        """Yield whether the buffer may start its rebuild inside the block; raises OperatorError."""
        async with self._lock:
            admitted = its_turn(key, since, await self._look(), self._starting, self._limit)
            if admitted:
                self._starting.add(key)
        try:
            yield admitted
        finally:
            if admitted:
                async with self._lock:  # what is being listed right now may not hold the new Job yet
                    self._starting.discard(key)
                    self._snapshot = None

    async def _look(self) -> Snapshot:
        now = self._clock()
        if self._snapshot is None or not 0 <= now - self._snapshot[0] <= _SNAPSHOT_S:
            jobs = [job for scope in self._scopes for job in await self._jobs(scope)]
            buffers = [one for scope in self._scopes for one in await self._cluster.list(BUFFER, scope, "")]
            self._snapshot = (now, snapshot_of(jobs, buffers))
        return self._snapshot[1]

    async def _jobs(self, scope: str | None) -> list[Json]:
        return await self._cluster.list(JOB, scope, f"{labels.COMPONENT}={Component.REBUILD}")


def snapshot_of(jobs: Collection[Json], buffers: Collection[Json]) -> Snapshot:
    """Return who rebuilds and who waits. A buffer that cannot start anything just now keeps nobody waiting. Pure."""
    running = {_key_of(job) for job in jobs if labels.BUFFER in job["metadata"].get("labels", {}) and not _ended(job)}
    waiting = {
        Key(one["metadata"]["namespace"], one["metadata"]["name"]): parse_timestamp(since)
        for one in buffers
        if (since := one.get("status", {}).get("rebuild", {}).get("waitingSince")) and _may_act(one["metadata"])
    }
    return Snapshot(frozenset(running), waiting)


def _key_of(job: Json) -> Key:
    return Key(job["metadata"]["namespace"], job["metadata"]["labels"][labels.BUFFER])


def _ended(job: Json) -> bool:
    conditions: list[Json] = job.get("status", {}).get("conditions", [])
    return any(one.get("type") in ("Complete", "Failed") and one.get("status") == "True" for one in conditions)


def _may_act(metadata: Json) -> bool:
    return "deletionTimestamp" not in metadata and labels.PAUSED not in metadata.get("annotations", {})
