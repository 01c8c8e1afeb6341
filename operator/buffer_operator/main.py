"""The process: connects the parts, starts and stops them.

Threads: the main one runs queue, watches, resync and HTTP on one event loop; kopf has its own. When a part that should
run for ever ends, the process ends with exit status 1 and Kubernetes starts it anew. Leadership that is lost is such an
end; until it is gained, nothing but the probes runs.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import signal
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from buffer_operator.errors import OperatorError
from buffer_operator.handlers import KopfThread
from buffer_operator.kube.cache import Cache
from buffer_operator.kube.cluster import ApiCluster
from buffer_operator.kube.kinds import BUFFER
from buffer_operator.kube.watches import WATCHED, Resync, watch
from buffer_operator.leader import Leadership, LeaseLeadership, Timing, Unchallenged, own_identity
from buffer_operator.observing.pods import HttpPods
from buffer_operator.probes import Probes
from buffer_operator.queue import Backoff, WorkQueue
from buffer_operator.reconcile import Reconciler
from buffer_operator.settings import InvalidSettingsError, OperatorSettings, load_settings

log = logging.getLogger(__name__)

_FIRST_LIST_PAUSE_S = 2.0


def main() -> int:
    """Run the operator; returns the exit status."""
    try:
        settings = load_settings(sys.argv[1:], os.environ)
    except InvalidSettingsError as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_USAGE
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # one line for each event otherwise
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)  # signals are taken by the main thread
    return asyncio.run(run(settings))


async def run(settings: OperatorSettings) -> int:
    """Run until SIGTERM or SIGINT (0) or until a part has ended by itself (1)."""
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    async with AsyncExitStack() as stack:
        leadership = await _leadership(settings, stack)
        cluster = await ApiCluster.connect(leadership.check, settings.watch_silence_s)
        stack.push_async_callback(cluster.close)
        cache = Cache(cluster, WATCHED)
        queue = await _queue(settings, cluster, cache, leadership, stack)
        resync = Resync(cluster, settings.watched, cache.stores[BUFFER], queue.add)
        probes = Probes(resync, leadership, settings.resync_age_max_s)
        stack.push_async_callback(probes.stop)
        port = await probes.start(settings.host, settings.port)
        log.info("probes and metrics on port %d; watching %s", port, settings.namespaces or "the whole cluster")
        kopf_thread = KopfThread(settings, queue.add)
        stack.push_async_callback(kopf_thread.stop)
        stack.push_async_callback(leadership.release)
        tasks = Tasks()
        stack.push_async_callback(tasks.stop)
        tasks.start("stop", stop.wait())
        tasks.start("election", leadership.acquire())
        if (ended := await tasks.until_done("election", "stop")) is not None:
            return ended
        tasks.start("lease", leadership.keep())
        tasks.start("first list", _first_list(resync))
        if (ended := await tasks.until_done("first list", "stop")) is not None:
            return ended
        kopf_thread.start()
        tasks.start("kopf", kopf_thread.ended.wait())
        tasks.start("resync", resync.run(settings.resync_s))
        for number in range(settings.workers):
            tasks.start(f"worker {number}", queue.work())
        for kind, scope in itertools.product(WATCHED, settings.watched):
            watching = watch(cluster, kind, scope, cache.stores[kind], queue.add)
            tasks.start(f"watch of {kind.plural} in {scope or 'all'}", watching)
        return await tasks.until_one_ends("stop")


async def _leadership(settings: OperatorSettings, stack: AsyncExitStack) -> Leadership:
    """Return leadership by the Lease, on connections of its own: renewals wait for nothing else."""
    if not settings.lease_namespace:
        return Unchallenged()
    cluster = await ApiCluster.connect()
    stack.push_async_callback(cluster.close)
    timing = Timing.of(settings.lease_duration_s)
    return LeaseLeadership(cluster, settings.lease_namespace, settings.lease_name, own_identity(), timing)


async def _queue(
    settings: OperatorSettings, cluster: ApiCluster, cache: Cache, leadership: Leadership, stack: AsyncExitStack
) -> WorkQueue:
    """Return the queue whose workers reconcile."""
    pods = HttpPods(leadership.check)
    stack.push_async_callback(pods.close)
    reconciler = Reconciler(cluster, pods, settings, cache=cache)
    backoff = Backoff(settings.backoff_first_s, settings.backoff_max_s, random.Random())  # noqa: S311 - jitter
    return WorkQueue(reconciler.visit, backoff)


async def _first_list(resync: Resync) -> None:
    """Wait for the API server and for the CRD."""
    while True:
        try:
            return await resync.once(spread_s=0.0)
        except OperatorError as error:
            log.warning("the buffers cannot be listed yet: %s", error)
        await asyncio.sleep(_FIRST_LIST_PAUSE_S)


class Tasks:
    """The parts that run for ever, by name."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], str] = {}

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Start a part."""
        self._tasks[asyncio.create_task(work, name=name)] = name

    async def until_done(self, name: str, expected: str) -> int | None:
        """Wait until the part of that name is done, and forget it: None; else as ``until_one_ends``."""
        part = next(task for task, known in self._tasks.items() if known == name)
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        if done == {part} and part.exception() is None:
            del self._tasks[part]
            return None
        return self._status(done, expected)

    async def until_one_ends(self, expected: str) -> int:
        """Wait until a part ends; returns 0 where it is the expected one, else 1."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        return self._status(done, expected)

    def _status(self, done: set[asyncio.Task[Any]], expected: str) -> int:
        if expected in [self._tasks[task] for task in done]:
            return 0
        for task in done:
            log.error("%s ended: %r", self._tasks[task], task.exception())
        return 1

    async def stop(self) -> None:
        """Cancel all parts and wait for them; an action that is cut off is repeated after the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
