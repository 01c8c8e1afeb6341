"""One visit of a buffer: observe, plan, apply, write the status if it has changed.

Level-based: whatever is done is decided from what the API server holds at that moment. Where a cache is given, a glance
at it comes first, and ends the visit where it finds nothing to do; every so often the API server is asked regardless.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from buffer_operator import events, metrics
from buffer_operator.admission import Admission
from buffer_operator.apply import Applier
from buffer_operator.errors import (
    ExportFailedError,
    GrowthRefusedError,
    OperatorError,
    RefusedError,
    VisitFailedError,
    WaitingForTurnError,
)
from buffer_operator.kube.cache import Cache
from buffer_operator.kube.cluster import Cluster
from buffer_operator.kube.kinds import Json
from buffer_operator.observing.observe import observe
from buffer_operator.observing.observed import Observed
from buffer_operator.observing.pods import PodApi
from buffer_operator.pace import Pace
from buffer_operator.planning.actions import Action, EvictPod, GrowClaim, StartRebuild
from buffer_operator.planning.plan import image_of, plan
from buffer_operator.planning.rebuilds import waiting_since
from buffer_operator.queue import Key
from buffer_operator.reporting.status import Failure, initial_status, status_of
from buffer_operator.resource.conditions import Reason
from buffer_operator.settings import OperatorSettings

log = logging.getLogger(__name__)


class Reconciler:
    """Visits buffers; ``clock`` returns Unix time in seconds."""

    def __init__(
        self,
        cluster: Cluster,
        pods: PodApi,
        settings: OperatorSettings,
        clock: Callable[[], float] = time.time,
        cache: Cache | None = None,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._reader = cache.authoritative() if cache else cluster
        chance = random.Random()  # noqa: S311 - jitter
        self._pace = Pace(settings.poll_s, settings.poll_max_s, settings.resync_s, chance)
        self._pods = pods
        self._settings = settings
        self._clock = clock
        self._applier = Applier(cluster, pods)
        self._admission = Admission(cluster, settings.watched, settings.rebuilds_max, clock)

    async def visit(self, key: Key) -> float | None:
        """Bring one buffer nearer to its spec; returns after how many seconds to look again.

        Raises OperatorError or TimeoutError where the visit is to be repeated with back-off.
        """
        with metrics.RECONCILE_SECONDS.time():
            try:
                async with asyncio.timeout(self._settings.reconcile_timeout_s):
                    after_s = await self._visit(key)
            except Exception:
                metrics.RECONCILES.labels("failed").inc()
                raise
        metrics.RECONCILES.labels("done").inc()
        return after_s

    async def _visit(self, key: Key) -> float | None:
        if self._cache is not None and await self._is_at_rest(key, self._cache):
            return self._pace.quiet(key)
        self._pace.asked(key, time.monotonic())
        observed = await observe(self._reader, self._pods, key.namespace, key.name)
        if observed is None:
            self._forget(key)
            return None
        if not observed.buffer.status.get("conditions"):
            await self._write(observed, initial_status(observed.buffer.generation, self._clock()))
            return 0.0
        actions = plan(observed, self._settings.image, self._clock())
        problem = await self._carry_out(observed, actions)
        reported = await self._report(observed, _failure(problem))
        if problem is not None and not isinstance(problem, WaitingForTurnError | GrowthRefusedError):
            raise VisitFailedError(str(problem), problem.after_s) from problem
        if observed.buffer.deleting:
            return None
        return self._pace.busy(key) if actions or reported else self._pace.quiet(key)

    async def _is_at_rest(self, key: Key, cache: Cache) -> bool:
        """Whether the watches have seen nothing that calls for an action or another status."""
        if not self._pace.glance_will_do(key, time.monotonic()):
            return False
        observed = await observe(cache, self._pods, key.namespace, key.name)
        at_rest = (
            observed is not None
            and not plan(observed, self._settings.image, self._clock())
            and self._status(observed, None) == observed.buffer.status
        )
        metrics.GLANCES.labels("rest" if at_rest else "work").inc()
        return at_rest

    def _forget(self, key: Key) -> None:
        self._pace.forget(key)
        if self._cache is not None:
            self._cache.forget(key)

    async def _carry_out(self, observed: Observed, actions: list[Action]) -> OperatorError | None:
        """Carry the plan out up to the first failure; neither growth nor an eviction that fails holds the rest up."""
        problem = None
        for action in actions:
            try:
                await self._act(observed, action)
            except OperatorError as error:
                if not isinstance(action, EvictPod | GrowClaim):
                    return error
                problem = error
        return problem

    def _status(self, observed: Observed, failure: Failure | None) -> Json:
        spec = observed.buffer.spec
        image = image_of(observed, spec, self._settings.image) if spec else ""
        return status_of(observed, image, failure, self._clock())

    async def _act(self, observed: Observed, action: Action) -> None:
        if not isinstance(action, StartRebuild):
            await self._applier.apply(observed, action)
            return
        key = Key(observed.buffer.namespace, observed.buffer.name)
        async with self._admission.turn(key, waiting_since(observed, self._clock())) as admitted:
            if not admitted:
                limit = self._settings.rebuilds_max
                raise WaitingForTurnError(f"{action.why}; it waits for its turn, as {limit} rebuilds may run at once.")
            await self._applier.apply(observed, action)

    async def _report(self, observed: Observed, failure: Failure | None) -> bool:
        """Write the status and its Events where it has changed; returns whether it has."""
        status = self._status(observed, failure)
        if status == observed.buffer.status:
            return False
        await self._write(observed, status)
        await events.post(self._cluster, events.events_of(observed.buffer, status, self._clock()))
        return True

    async def _write(self, observed: Observed, status: Json) -> None:
        await self._cluster.replace_status({**observed.buffer.resource, "status": status})
        metrics.STATUS_WRITES.inc()


def _failure(problem: OperatorError | None) -> Failure | None:
    """Return what of a problem belongs into conditions: what passes by itself does not."""
    match problem:
        case WaitingForTurnError():
            return Failure(Reason.WAITING_FOR_TURN, str(problem))
        case ExportFailedError():
            return Failure(Reason.EXPORT_FAILED, str(problem))
        case GrowthRefusedError():
            return Failure(Reason.RESIZE_REFUSED, str(problem), problem.size)
        case RefusedError():
            return Failure(Reason.REFUSED_BY_API, str(problem))
        case _:
            return None
