"""Probes and metrics over HTTP.

``/livez`` fails when the last good resync is too old, whatever else still seems to work; while another operator acts it
fails when the Lease has not been asked for so long. ``/readyz`` fails before the first resync of the one that acts; one
that stands by is ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from buffer_operator.kube.watches import Resync
from buffer_operator.leader import Leadership


class Probes:
    """The HTTP server; owned by the main event loop."""

    def __init__(
        self,
        resync: Resync,
        leadership: Leadership,
        age_max_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resync = resync
        self._leadership = leadership
        self._age_max_s = age_max_s
        self._monotonic = monotonic
        application = web.Application()
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one where 0 was asked for. Raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        taken: int = self._runner.addresses[0][1]
        return taken

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        leads_for_s = self._leadership.leads_for_s()
        if leads_for_s is None:
            what, age_s = "the lease was last asked for", self._leadership.attempt_age_s()
        elif self._resync.last_good_at is None:
            what, age_s = "there was no resync yet; leadership began", leads_for_s
        else:
            what, age_s = "the last good resync was", self._monotonic() - self._resync.last_good_at
        if age_s > self._age_max_s:
            return web.Response(status=503, text=f"{what} {age_s:.0f} s ago\n")
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._leadership.leads_for_s() is None:
            return web.Response(text="standing by\n")
        if self._resync.last_good_at is None:
            return web.Response(status=503, text="the buffers have not been listed yet\n")
        return web.Response(text="ok\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
