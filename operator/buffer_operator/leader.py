"""Leader election by a Lease: of all operators that share it, one acts.

Invariants:

- The holder acts only within ``deadline_s`` after it *began* its last accepted renewal, by a local clock that goes on
  while the process, or the machine, is suspended. ``check`` is asked before each single write.
- Others take the Lease only when they have not *seen* it change for its ``duration_s``, which is longer. Clocks of two
  machines are never compared.
- The Lease is changed by compare-and-swap alone. A holder that finds it still its own, in the same term, goes on, as
  nobody has acted in between. So an API server that is gone for minutes does not end the process.
- A term, once lost, does not come back: ``keep`` returns, and the process ends.

Owned by the main event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from buffer_operator import metrics
from buffer_operator.errors import NotLeadingError, OperatorError
from buffer_operator.kube.kinds import LEASE, Json, Kind

log = logging.getLogger(__name__)

_NEVER: Final = float("-inf")
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Of Linux; elsewhere, which is where people develop, the clock may stop while the machine sleeps."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; ``retry_s`` < ``deadline_s`` < ``duration_s``. Rounded up, the duration is what the Lease says."""

    duration_s: float
    deadline_s: float
    retry_s: float

    @classmethod
    def of(cls, duration_s: float) -> Timing:
        """Return the usual shares: stop to act at two thirds, renew five times in that time."""
        return cls(duration_s, duration_s * 2 / 3, duration_s * 2 / 15)


class Leases(Protocol):
    """What an election needs of an API server; see ``Cluster``."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """Return the Lease, None where there is none."""

    async def create(self, manifest: Json) -> bool:
        """Create the Lease; returns False where there is one already."""

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> None:
        """Change it; raises ChangedError where it is not at the patch's resourceVersion."""


class Leadership(Protocol):
    """Whether this process may act."""

    def leads_for_s(self) -> float | None:
        """Return how long this process has led; None while it stands by."""

    def attempt_age_s(self) -> float:
        """Return how long ago the Lease was last asked for, whether that worked or not."""

    def check(self) -> None:
        """Return where this process may write now; raises NotLeadingError."""

    async def acquire(self) -> None:
        """Wait until this process leads."""

    async def keep(self) -> None:
        """Go on leading; returns when another has taken over or may have."""

    async def release(self) -> None:
        """Let another lead at once; never raises."""


def uptime_s() -> float:
    """Return seconds on a clock that never goes back and does not stop while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


def own_identity() -> str:
    """Return a name that no other process has, and no later one of this host either."""
    return f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"


class Unchallenged:
    """Leadership without a Lease: whoever starts the process sees to it that it is the only one."""

    def __init__(self, clock: Callable[[], float] = uptime_s) -> None:
        self._clock = clock
        self._led_from = clock()

    def leads_for_s(self) -> float | None:
        """See Leadership."""
        return self._clock() - self._led_from

    def attempt_age_s(self) -> float:
        """See Leadership."""
        return 0.0

    def check(self) -> None:
        """See Leadership."""

    async def acquire(self) -> None:
        """See Leadership."""
        metrics.LEADING.set(1)

    async def keep(self) -> None:
        """See Leadership."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """See Leadership."""
        metrics.LEADING.set(0)


class LeaseLeadership:
    """Leadership by the Lease ``namespace/name``; ``cluster`` must not itself ask for leadership."""

    def __init__(
        self,
        cluster: Leases,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing,
        clock: Callable[[], float] = uptime_s,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._timing = timing
        self._clock = clock
        self._valid_until = _NEVER
        self._term = 0
        self._seen_version = ""
        self._seen_at = _NEVER
        self._attempted_at = clock()
        self._led_from: float | None = None

    def leads_for_s(self) -> float | None:
        """See Leadership."""
        return None if self._led_from is None else self._clock() - self._led_from

    def attempt_age_s(self) -> float:
        """See Leadership."""
        return self._clock() - self._attempted_at

    def check(self) -> None:
        """See Leadership."""
        if self._clock() >= self._valid_until:
            raise NotLeadingError(f"the lease {self._namespace}/{self._name} has not been renewed in time")

    async def acquire(self) -> None:
        """See Leadership."""
        log.info("waiting for the lease %s/%s as %s", self._namespace, self._name, self._identity)
        while not await self._attempt(self._try_to_take):
            await self._pause()
        self._led_from = self._clock()
        metrics.LEADING.set(1)
        log.info("leading, term %d", self._term)

    async def keep(self) -> None:
        """See Leadership."""
        while True:
            await self._pause()
            if await self._attempt(self._try_to_renew) is False:
                break
            metrics.LEADING.set(self._clock() < self._valid_until)
        self._valid_until = _NEVER
        metrics.LEADING.set(0)
        log.error("the lease %s/%s is no longer ours", self._namespace, self._name)

    async def release(self) -> None:
        """See Leadership."""
        self._valid_until = _NEVER
        metrics.LEADING.set(0)
        try:
            lease = await self._cluster.get(LEASE, self._namespace, self._name)
            if lease is not None and self._is_ours(lease):
                await self._write(lease, {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()})
        except OperatorError as error:
            log.warning("the lease was not released, it has to run out: %s", error)

    async def _attempt(self, step: Callable[[], Awaitable[bool]]) -> bool | None:
        """Try one step; returns None where the API server did not let us."""
        self._attempted_at = self._clock()
        try:
            async with asyncio.timeout(self._timing.deadline_s):
                return await step()
        except (OperatorError, TimeoutError) as error:
            log.warning("the lease %s/%s: %s", self._namespace, self._name, str(error) or "no answer in time")
            return None

    async def _try_to_take(self) -> bool:
        began = self._clock()
        lease = await self._cluster.get(LEASE, self._namespace, self._name)
        if lease is None:
            self._term = 1
            if not await self._cluster.create(self._new_lease()):
                return False
        elif self._may_be_taken(lease):
            self._term = int(lease["spec"].get("leaseTransitions") or 0) + 1
            await self._write(lease, self._claim())
        else:
            return False
        self._valid_until = began + self._timing.deadline_s
        return True

    async def _try_to_renew(self) -> bool:
        began = self._clock()
        lease = await self._cluster.get(LEASE, self._namespace, self._name)
        if lease is None or not self._is_ours(lease):
            return False
        await self._write(lease, {"renewTime": _now()})
        self._valid_until = began + self._timing.deadline_s
        return True

    def _may_be_taken(self, lease: Json) -> bool:
        """Whether it was given up, is ours from an answer that got lost, or has not changed for its duration."""
        spec, version, now = lease.setdefault("spec", {}), lease["metadata"]["resourceVersion"], self._clock()
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, now
        duration_s = float(spec.get("leaseDurationSeconds") or self._timing.duration_s)
        return spec.get("holderIdentity") in (None, "", self._identity) or now - self._seen_at >= duration_s

    def _is_ours(self, lease: Json) -> bool:
        spec: Json = lease.get("spec", {})
        return (spec.get("holderIdentity"), spec.get("leaseTransitions")) == (self._identity, self._term)

    async def _write(self, lease: Json, spec: Json) -> None:
        """Compare and swap; raises ChangedError where another was first."""
        patch = {"metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]}, "spec": spec}
        await self._cluster.patch(LEASE, self._namespace, self._name, patch)

    def _claim(self) -> Json:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._timing.duration_s),
            "leaseTransitions": self._term,
            "acquireTime": _now(),
            "renewTime": _now(),
        }

    def _new_lease(self) -> Json:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._claim(),
        }

    async def _pause(self) -> None:
        await asyncio.sleep(self._timing.retry_s * (0.8 + random.random() / 5))  # noqa: S311 - jitter


def _now() -> str:
    """Return the time for people who read the Lease; nothing is decided by it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
