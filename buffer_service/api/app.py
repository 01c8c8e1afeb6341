"""The ASGI application: authorisation and problem documents around two kinds of routes.

The hot paths are looked up by method and path and answered without a framework; everything else is FastAPI's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from buffer_service.api.auth import ADMIN, READ, WRITE, Tokens
from buffer_service.api.downloads import Downloads
from buffer_service.api.hot import Handler, HotPaths
from buffer_service.api.messages import Answer, Receive, Scope, Send, header, problem, read_request, send_answer
from buffer_service.api.metrics import Metrics
from buffer_service.api.routes import build_routes
from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.errors import ExperienceBufferError

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_READING_POSTS = frozenset({"/v1/search", "/v1/sample"})


class Api:
    """The application on the API's port. ``operations`` answers probes and metrics where they share the port."""

    def __init__(self, buffer: ExperienceBuffer, operations: Application | None) -> None:
        self._buffer = buffer
        self._tokens = Tokens(buffer.settings.auth.tokens_dir)
        self._hot = HotPaths(buffer)
        self.metrics = Metrics(buffer, self._hot.searches.dispatcher)
        self._downloads = Downloads("backup"), Downloads("export")
        self._routes = build_routes(buffer, self._hot, *self._downloads)
        self._operations = operations

    def close(self) -> None:
        """Finish what runs on threads."""
        self._hot.close()
        for downloads in self._downloads:
            downloads.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return
        path: str = scope["path"]
        if self._operations is not None and path in OPERATIONS_PATHS:
            await self._operations(scope, receive, send)
            return
        if path.startswith("/v1/"):
            try:
                self._tokens.require(header(scope, b"authorization"), scope_needed(scope["method"], path))
            except ExperienceBufferError as error:
                await send_answer(send, problem(error))
                return
        handler = self._hot.handlers.get((scope["method"], path))
        if handler is None:
            await self._routes(scope, receive, send)
        else:
            await self._answer(handler, scope, receive, send)

    async def _answer(self, handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        try:
            request = await read_request(scope, receive, self._buffer.settings.server.body_bytes_max)
            answer: Answer = await handler(request)
        except ExperienceBufferError as error:
            answer = problem(error)
        except Exception:
            self.metrics.observe(scope["path"], 500, time.perf_counter() - started)
            raise
        self.metrics.observe(scope["path"], int(answer.status), time.perf_counter() - started)
        await send_answer(send, answer)


OPERATIONS_PATHS = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})


def scope_needed(method: str, path: str) -> int:
    """Return the token scope that a request under /v1 needs."""
    if path.startswith("/v1/admin/"):
        return ADMIN
    return READ if method in ("GET", "HEAD") or path in _READING_POSTS else WRITE


class Operations:
    """Probes and metrics. Live: the process can go on; ready: it answers reads; both never touch the disk."""

    def __init__(self, buffer: ExperienceBuffer) -> None:
        self._buffer = buffer
        self.metrics: Metrics | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del receive
        if scope["type"] == "http":
            await send_answer(send, self._answer(scope["path"]))

    def _answer(self, path: str) -> Answer:
        if path == "/metrics" and self.metrics is not None:
            return Answer(self.metrics.render(), "text/plain; version=0.0.4; charset=utf-8")
        if path == "/livez" and self._buffer.writer.failure:
            return Answer(self._buffer.writer.failure.encode(), "text/plain", HTTPStatus.SERVICE_UNAVAILABLE)
        if path == "/readyz" and self._buffer.settings.index.gpu_required and self._buffer.engine.fell_back:
            reason = self._buffer.engine.backend.reason
            return Answer(f"no GPU: {reason}".encode(), "text/plain", HTTPStatus.SERVICE_UNAVAILABLE)
        if path in OPERATIONS_PATHS:
            return Answer(b"ok", "text/plain")
        return Answer(b"not found", "text/plain", HTTPStatus.NOT_FOUND)
