"""The ASGI application: authorisation and problem documents around two kinds of routes.

The hot paths are answered without a framework, and by ``direct`` also without ASGI; everything else is FastAPI's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from buffer_service.api.auth import ADMIN, READ, WRITE, Tokens
from buffer_service.api.downloads import Downloads
from buffer_service.api.driving import Driven
from buffer_service.api.hot import HotPaths
from buffer_service.api.messages import (
    Answer,
    Headers,
    Receive,
    Request,
    Scope,
    Send,
    failure,
    problem,
    read_body,
    request_of,
    require_length,
    send_answer,
)
from buffer_service.api.metrics import Metrics
from buffer_service.api.routes import build_routes
from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.errors import ExperienceBufferError

log = logging.getLogger(__name__)

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_READING_POSTS = frozenset({"/v1/search", "/v1/sample"})


class Api:
    """The application on the API's port. ``operations`` answers probes and metrics where they share the port."""

    def __init__(self, buffer: ExperienceBuffer, operations: Application | None) -> None:
        self.body_bytes_max = buffer.settings.server.body_bytes_max
        """Longer bodies are refused."""
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
        method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
        if self._operations is not None and path in OPERATIONS_PATHS:
            await self._operations(scope, receive, send)
            return
        hot = self.takes(method, path)
        try:
            if path.startswith("/v1/"):
                self._require_token(method, path, headers)
            body = await self._body(headers, receive) if hot else b""
        except ExperienceBufferError as error:
            await send_answer(send, problem(error))
            return
        if not hot:
            await self._routes(scope, receive, send)
            return
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.begin(path, request_of(headers, scope["query_string"], body), answer.set_result)
        await send_answer(send, await answer)

    def _require_token(self, method: str, path: str, headers: Headers) -> None:
        if self._tokens.needed:
            self._tokens.require(headers.get(b"authorization", b"").decode("latin-1"), scope_needed(method, path))

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        require_length(headers, self.body_bytes_max)
        return await read_body(receive, self.body_bytes_max)

    def takes(self, method: str, path: str) -> bool:
        """See ``direct.Direct``."""
        return method == "POST" and path in self._hot.handlers

    def refusal(self, path: str, headers: Headers) -> Answer | None:
        """See ``direct.Direct``."""
        try:
            self._require_token("POST", path, headers)
            require_length(headers, self.body_bytes_max)
        except ExperienceBufferError as error:
            return problem(error)
        return None

    def begin(self, path: str, request: Request, done: Callable[[Answer], object]) -> Driven[Answer]:
        """See ``direct.Direct``."""
        return Driven(self._answer(path, request), done)

    async def _answer(self, path: str, request: Request) -> Answer:
        started = time.perf_counter()
        try:
            answer = await self._hot.handlers[path](request)
        except ExperienceBufferError as error:
            answer = problem(error)
        except Exception:
            log.exception("a request to %s could not be answered", path)
            answer = failure()
        self.metrics.observe(path, int(answer.status), time.perf_counter() - started)
        return answer


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
