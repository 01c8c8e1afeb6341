"""What many buffers cost the operator: memory, writes at rest, time to react. Run: python -m benchmarks operator.

The operator of this checkout runs as a process beside this one, against the API server of KUBECONFIG and for a
namespace of its own. Every object is real; the pods are stand-ins (``benchmarks.stand_in``), as this is about what the
operator does, not about what pods do. No other operator may serve that namespace meanwhile.

Measured: resident memory and its peak; at rest, with full resyncs, the writes and reads of the API server, the polls of
pods and the share of a core; then the time from the answer to a change of a buffer's spec until its StatefulSet has
changed, and from the deletion of a Service until it is back, both as a watch sees them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from buffer_operator.kube import labels
from buffer_operator.kube.cluster import ApiCluster
from buffer_operator.kube.kinds import BUFFER, CONFIG_MAP, SERVICE, STATEFUL_SET, Kind
from kubernetes.aio import client, config
from rich.console import Console
from rich.table import Table

from benchmarks.observed import Memory
from benchmarks.operator_process import Operator
from benchmarks.stand_in import StandIn, make_ready
from buffer_service.contract import names

MEMORY_BAR_MIB = 200.0
REACTION_BAR_S = 1.0
_RESYNC_S = 60.0
_PATIENCE_S = 600.0
_REACTION_MAX_S = 60.0


async def until(probe: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask twice a second until it holds; raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE_S
    while not await probe():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        await asyncio.sleep(0.5)


def buffer(name: str, namespace: str) -> dict[str, Any]:
    """Return a buffer that asks for more processors than any node has, so that no node runs its pod."""
    return {
        "apiVersion": BUFFER.api_version,
        "kind": BUFFER.name,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"embedding": {"dimension": 64}, "resources": {"requests": {"cpu": "1000"}}},
    }


async def versions(cluster: ApiCluster, namespace: str) -> dict[str, str]:
    """Return the resourceVersion of every buffer and of what an operator would rewrite first."""
    found: dict[str, str] = {}
    for kind in (BUFFER, STATEFUL_SET, SERVICE, CONFIG_MAP):
        for item in await cluster.list(kind, namespace, "" if kind == BUFFER else labels.BUFFER):
            found[f"{kind.name}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
    return found


async def reactions(
    cluster: ApiCluster, namespace: str, kind: Kind, act: Callable[[str], Awaitable[str]], chosen: list[str]
) -> tuple[list[float], list[float]]:
    """Act on one buffer after the other.

    Returns the seconds that each act took, which is the API server's own part on a busy machine, and those from each
    answer to the event with what ``act`` says.
    """
    seen, acts, times = asyncio.Queue[str](), list[float](), list[float]()
    version = (await cluster.listing(kind, namespace, labels.BUFFER)).resource_version

    async def follow(version: str) -> None:
        while True:  # the API server ends each watch after a while
            async for event in cluster.watch(kind, namespace, labels.BUFFER, version):
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] in ("ADDED", "MODIFIED"):
                    seen.put_nowait(json.dumps(event["object"]))

    following = asyncio.create_task(follow(version))
    try:
        for name in chosen:
            asked = time.perf_counter()
            wanted = await act(name)
            began = time.perf_counter()
            acts.append(began - asked)
            async with asyncio.timeout(_REACTION_MAX_S):
                while wanted not in (event := await seen.get()) or f'"{name}"' not in event:
                    continue
            times.append(time.perf_counter() - began)
            await asyncio.sleep(random.random() / 5)  # noqa: S311 - changes do not come in step with anything
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    return acts, times


def p99(times: list[float]) -> float:
    """Return what 99 of 100 stay below."""
    return statistics.quantiles(times, n=100, method="inclusive")[98]


def row(times: list[float]) -> str:
    """Return p50, p99 and the highest, in milliseconds."""
    return f"{statistics.median(times) * 1000:.0f}, {p99(times) * 1000:.0f}, {max(times) * 1000:.0f} ms"


class Run:
    """One run in one namespace."""

    def __init__(self, namespace: str, count: int, api: client.ApiClient, operator: Operator) -> None:
        self._namespace = namespace
        self._names = [f"scale-{number:04d}" for number in range(count)]
        self._api = api
        self._cluster = ApiCluster(api)
        self._operator = operator
        self._stand_in = StandIn()
        self.table = Table("", f"{count} buffers", title=f"one operator, {os.cpu_count()} cores")
        self.missed: list[str] = []

    async def measure(self, rest_s: float, changes: int) -> None:
        """Make the buffers, rest, change some."""
        await self._stand_in.start()
        try:
            await until(self._operator.started, "the operator to start")
            began = time.monotonic()
            for name in self._names:
                await self._cluster.create(buffer(name, self._namespace))
            await until(self._all_serve, "all buffers to be ready")
            self.table.add_row("made and ready, s", f"{time.monotonic() - began:.0f}")
            await until(self._is_calm, "the operator to come to rest")
            await self._rest(rest_s)
            await self._react(changes)
            memory = Memory.of(self._operator.process.pid)
            self.table.add_row("memory, highest (now), MiB", f"{memory.peak_mib:.0f} ({memory.rss_mib:.0f})")
            self._bar("memory", memory.peak_mib, MEMORY_BAR_MIB)
        finally:
            await self._stand_in.stop()

    async def close(self) -> None:
        """Close every connection."""
        await self._cluster.close()

    async def _all_serve(self) -> bool:
        await make_ready(self._cluster, self._api, self._namespace)
        found = await self._cluster.list(BUFFER, self._namespace, "")
        ready = sum(item.get("status", {}).get("phase") == "Ready" for item in found)
        return bool(ready == len(self._names))

    async def _is_calm(self) -> bool:
        before = await versions(self._cluster, self._namespace)
        await asyncio.sleep(5)
        return await versions(self._cluster, self._namespace) == before

    async def _rest(self, rest_s: float) -> None:
        before, asked, objects = self._operator.counts(), self._stand_in.asked, await self._versions()
        await asyncio.sleep(rest_s)
        after = self._operator.counts()
        seconds = after.at - before.at
        rewritten = await self._versions() != objects
        rows = {
            f"at rest for {seconds:.0f} s, a full resync each {_RESYNC_S:.0f} s: writes": after.writes - before.writes,
            "reads of the API server, per second": (after.reads - before.reads) / seconds,
            "looks at buffers, per second": (after.looks - before.looks) / seconds,
            "polls of pods, per second": (self._stand_in.asked - asked) / seconds,
            "share of a core, %": 100 * (after.cpu_s - before.cpu_s) / seconds,
        }
        for name, value in rows.items():
            self.table.add_row(name, f"{value:.1f}")
        self._bar("writes at rest", after.writes - before.writes + rewritten, 0)

    async def _versions(self) -> dict[str, str]:
        return await versions(self._cluster, self._namespace)

    async def _react(self, changes: int) -> None:
        async def change(name: str) -> str:
            capacity = random.randint(1_000_000, 9_999_999)  # noqa: S311 - a number that was not there before
            await self._cluster.patch(BUFFER, self._namespace, name, {"spec": {"capacity": capacity}})
            return f'"{capacity}"'

        core = client.CoreV1Api(self._api)

        async def delete(name: str) -> str:
            headless = names.headless_service(name)
            await core.delete_namespaced_service(headless, self._namespace)
            return f'"{headless}"'

        chosen = random.sample(self._names, min(changes, len(self._names)))
        for what, kind, act in (
            ("spec changed, until the StatefulSet has: p50, p99, highest", STATEFUL_SET, change),
            ("Service deleted, until it is back: p50, p99, highest", SERVICE, delete),
        ):
            acts, times = await reactions(self._cluster, self._namespace, kind, act, chosen)
            self.table.add_row(what, row(times))
            self.table.add_row("  the request itself: p50, p99, highest", row(acts))
            self._bar(what.partition(":")[0], p99(times), REACTION_BAR_S)

    def _bar(self, what: str, value: float, bar: float) -> None:
        if value > bar:
            self.missed.append(f"{what}: {value:.2f}, the bar is {bar:g}")


async def run(given: argparse.Namespace) -> int:
    """Run it in a namespace that is gone afterwards."""
    configuration = client.Configuration()
    await config.load_kube_config(client_configuration=configuration)
    api = client.ApiClient(configuration)
    await client.CoreV1Api(api).create_namespace({"metadata": {"name": given.namespace}})
    with tempfile.TemporaryDirectory(prefix="xbuf-scale-") as folder:
        operator = Operator(given.namespace, _RESYNC_S, Path(folder) / "operator.log")
        measured = Run(given.namespace, given.buffers, api, operator)
        try:
            await measured.measure(given.rest_s, given.changes)
        finally:
            operator.end()
            await client.CoreV1Api(api).delete_namespace(given.namespace)
            await measured.close()
    Console().print(measured.table)
    Console().print("\n".join(f"MISSED {line}" for line in measured.missed) or "all bars met")
    return 1 if measured.missed else 0


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buffers", type=int, default=300)
    parser.add_argument("--rest-s", type=float, default=65.0)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--namespace", default="xbuf-scale")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
