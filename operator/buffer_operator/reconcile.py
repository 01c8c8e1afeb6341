"""One visit of a buffer: observe, plan, apply, write the status if it has changed.

Level-based: nothing is remembered between visits but what the API server holds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from buffer_operator import events, metrics
from buffer_operator.apply import Applier
from buffer_operator.cluster import Cluster
from buffer_operator.conditions import Reason
from buffer_operator.errors import ExportFailedError, OperatorError, RefusedError, VisitFailedError
from buffer_operator.kinds import Json
from buffer_operator.observe import observe
from buffer_operator.observed import Observed
from buffer_operator.plan import image_of, plan
from buffer_operator.pods import PodApi
from buffer_operator.queue import Key
from buffer_operator.settings import OperatorSettings
from buffer_operator.status import Failure, initial_status, status_of

log = logging.getLogger(__name__)


class Reconciler:
    """Visits buffers; ``clock`` returns Unix time in seconds."""

    def __init__(
        self, cluster: Cluster, pods: PodApi, settings: OperatorSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._cluster = cluster
        self._pods = pods
        self._settings = settings
        self._clock = clock
        self._applier = Applier(cluster, pods)

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
        observed = await observe(self._cluster, self._pods, key.namespace, key.name)
        if observed is None:
            return None
        if not observed.buffer.status.get("conditions"):
            await self._write(observed, initial_status(observed.buffer.generation, self._clock()))
            return 0.0
        problem = await self._carry_out(observed)
        await self._report(observed, _failure(problem))
        if problem is not None:
            raise VisitFailedError(str(problem)) from problem
        return self._settings.poll_s if observed.pods and not observed.buffer.deleting else None

    async def _carry_out(self, observed: Observed) -> OperatorError | None:
        """Carry the plan out up to the first failure."""
        for action in plan(observed, self._settings.image, self._clock()):
            try:
                await self._applier.apply(observed, action)
            except OperatorError as error:
                return error
        return None

    async def _report(self, observed: Observed, failure: Failure | None) -> None:
        buffer, now = observed.buffer, self._clock()
        image = image_of(observed, buffer.spec, self._settings.image) if buffer.spec else ""
        status = status_of(observed, image, failure, now)
        if status == buffer.status:
            return
        await self._write(observed, status)
        await events.post(self._cluster, events.events_of(buffer, status, now))

    async def _write(self, observed: Observed, status: Json) -> None:
        await self._cluster.replace_status({**observed.buffer.resource, "status": status})
        metrics.STATUS_WRITES.inc()


def _failure(problem: OperatorError | None) -> Failure | None:
    """Return what of a problem belongs into conditions: what passes by itself does not."""
    match problem:
        case ExportFailedError():
            return Failure(Reason.EXPORT_FAILED, str(problem))
        case RefusedError():
            return Failure(Reason.REFUSED_BY_API, str(problem))
        case _:
            return None
