"""Data pods that are there for the operator alone: real Pod objects that no node runs, all answered for by one server.

The operator asks a pod at its own address. These have an address of this machine, where a server says for each of them
that it serves and that nothing waits. So watches, looks and polls are what they are with real pods; only what happens
in a pod is left out.
"""

from __future__ import annotations

import asyncio
import socket
import time

import msgspec
from aiohttp import web
from buffer_operator.kube import labels
from buffer_operator.kube.cluster import ApiCluster
from buffer_operator.kube.kinds import POD
from kubernetes.aio import client

from buffer_service.contract import names
from buffer_service.contract.pointer import INITIAL
from buffer_service.contract.status import Backend, ServiceStatus, StoreHealth

_AT_ONCE = 16


def _status() -> ServiceStatus:
    return ServiceStatus(
        version="1",
        started_at=time.time(),
        dimension=64,
        metric="cosine",
        sequence=1,
        size=1,
        capacity=100_000,
        generation=INITIAL.generation,
        pointer_revision=INITIAL.revision,
        watermark=0,
        index_type="flat",
        index_rows=0,
        delta_rows=1,
        tombstones=0,
        pending_operations=1,
        backend=Backend(requested="auto", active="cpu", reason=""),
        store=StoreHealth(backend="lmdb", writable=True, reason="", size_bytes=1),
        rss_bytes=1,
        rebuild_running=False,
        rebuild_error="",
        switch=None,
        refused=None,
    )


class StandIn:
    """The server, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self._answer = msgspec.json.encode(_status())
        application = web.Application()
        application.router.add_get("/v1/status", self._tell)
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self) -> None:
        """Listen where data pods do; raises OSError where the port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, own_address(), names.HTTP_PORT).start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _tell(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=self._answer, content_type="application/json")


def own_address() -> str:
    """Return an address of this machine that a pod may have: not one on loopback. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


async def make_ready(cluster: ApiCluster, api: client.ApiClient, namespace: str) -> int:
    """Give each pod of the namespace that is not ready an address and readiness; returns how many pods there are."""
    core, slots, address = client.CoreV1Api(api), asyncio.Semaphore(_AT_ONCE), own_address()
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
    }

    async def one(name: str) -> None:
        async with slots:
            await core.patch_namespaced_pod_status(name, namespace, {"status": status})

    pods = await cluster.list(POD, namespace, labels.BUFFER)
    waiting = [pod["metadata"]["name"] for pod in pods if pod.get("status", {}).get("phase") != "Running"]
    await asyncio.gather(*(one(name) for name in waiting))
    return len(pods)
