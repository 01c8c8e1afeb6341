"""A proxy on loopback in front of a real API server, which does what real ones do on bad days.

It speaks plain HTTP to the operator under test, and the kubeconfig's protocol and credentials to the API server. It
runs on an event loop and a thread of its own; the public methods may be called from any other.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web
from kubernetes.aio import client, config

_UPSTREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5)
_HOP_HEADERS = frozenset(
    {"Host", "Content-Length", "Transfer-Encoding", "Connection", "Content-Encoding", "Accept-Encoding"}
)
_GONE = (
    b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}}\n'
)


@dataclass(frozen=True)
class Write:
    """A request that could change something and was passed on, with the API server's answer."""

    verb: str
    path: str
    status: int


@dataclass
class Fault:
    """An answer in place of the API server's, to so many of the requests that it fits."""

    status: int
    fits: Callable[[web.BaseRequest], bool]
    times: int
    headers: dict[str, str] = field(default_factory=dict)


def is_write(request: web.BaseRequest) -> bool:
    """Whether the request could change something."""
    return request.method != "GET"


def is_watch(request: web.BaseRequest) -> bool:
    """Whether the request is a watch."""
    return request.query.get("watch", "") in ("true", "1")


class ApiProxy:
    """The proxy; ``with ApiProxy() as proxy``."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        """Every write that was passed on, in the order of the answers."""
        self.faulty_answers = 0
        """How many requests got a made-up answer."""
        self.on_write: Callable[[Write], None] = lambda _: None
        """Called on the proxy's thread when the API server has answered, before the operator hears of it."""
        self._faults: list[Fault] = []
        self._watches: set[web.StreamResponse] = set()
        self._gone = False
        self._talking = asyncio.Event()
        self._talking.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api-proxy", daemon=True)
        self._upstream = ""
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.ServerRunner | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here, and return its path."""
        named = {"clusters": {"server": self.url}, "users": {}, "contexts": {"cluster": "proxy", "user": "proxy"}}
        parts: dict[str, Any] = {
            kind: [{"name": "proxy", kind.removesuffix("s"): content}] for kind, content in named.items()
        }
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "proxy", **parts}))
        return path

    def disappear(self) -> None:
        """Break every connection and answer none from now on."""
        self._gone = True
        self._loop.call_soon_threadsafe(self._cut_watches)

    def come_back(self) -> None:
        """Answer again, with everything that was set before forgotten."""
        self._gone = False
        self._faults.clear()
        self._loop.call_soon_threadsafe(self._talking.set)

    def answer(
        self,
        status: int,
        times: int,
        fits: Callable[[web.BaseRequest], bool] = is_write,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer the next ``times`` requests that fit by this status instead of asking the API server."""
        self._faults.append(Fault(status, fits, times, headers or {}))

    def silence_watches(self) -> None:
        """Pass on nothing more over watches that are open now or are opened later, and leave them open."""
        self._loop.call_soon_threadsafe(self._talking.clear)

    def expire_watches(self) -> None:
        """End every open watch as the API server does when it has forgotten too much."""
        self._run(self._expire())

    def _run(self, work: Any) -> Any:  # noqa: ANN401 - any coroutine and its result
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> None:
        configuration = client.Configuration()
        await config.load_kube_config(client_configuration=configuration)
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
        self._upstream = configuration.host
        connector = aiohttp.TCPConnector(limit=0, ssl=context)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        self.disappear()
        if self._runner and self._session:
            await self._runner.cleanup()
            await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._gone:
            self._abort(request)
        for fault in self._faults:
            if fault.times > 0 and fault.fits(request):
                fault.times -= 1
                self.faulty_answers += 1
                body = {"kind": "Status", "code": fault.status, "message": "made up by the test"}
                return web.json_response(body, status=fault.status, headers=fault.headers)
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_HEADERS}
        url, content = self._upstream + request.raw_path, await request.read() or None
        asked = self._session.request(request.method, url, headers=headers, data=content, timeout=_UPSTREAM_TIMEOUT)
        async with asked as answer:
            if is_watch(request) and answer.status == web.HTTPOk.status_code:
                return await self._pass_on_watch(request, answer)
            told = await answer.read()
        if is_write(request):
            self._note(Write(request.method, request.path, answer.status))
        if self._gone:
            self._abort(request)
        return web.Response(body=told, status=answer.status, headers={"Content-Type": answer.content_type})

    async def _pass_on_watch(self, request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._watches.add(response)
        try:
            async for line in answer.content:
                await self._talking.wait()
                if response not in self._watches:
                    break
                await response.write(line)
        except (ConnectionError, aiohttp.ClientError):
            pass
        finally:
            self._watches.discard(response)
        return response

    async def _expire(self) -> None:
        for response in list(self._watches):
            self._watches.discard(response)
            await response.write(_GONE)
        self._cut_watches()

    def _cut_watches(self) -> None:
        for response in self._watches:
            transport = response._req.transport if response._req else None
            if transport:
                transport.abort()
        self._watches.clear()

    def _note(self, write: Write) -> None:
        self.writes.append(write)
        self.on_write(write)

    def _abort(self, request: web.BaseRequest) -> None:
        if request.transport:
            request.transport.abort()
        raise ConnectionResetError("the API server is gone")
