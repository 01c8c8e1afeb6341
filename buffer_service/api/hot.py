"""The hot paths: append, search, sample, priorities, outcomes. From a request whose body was read to an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http import HTTPStatus
from typing import TypeVar

from buffer_service.api import sampling
from buffer_service.api.messages import Answer, Request, decode, encode
from buffer_service.api.schemas import (
    AppendAnswer,
    AppendBody,
    OutcomesBody,
    PrioritiesBody,
    UpdateAnswer,
    UpdatesAnswer,
)
from buffer_service.api.searching import Searches
from buffer_service.api.writes import Writes
from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.core.pending import Pending
from buffer_service.core.plan import Appended, PriorityUpdate, UpdateStatus
from buffer_service.core.write import Write
from buffer_service.errors import OverloadedError

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Answer]]

_THREADS = 2
_INLINE_BYTES_MAX = 64 * 1024
"""Longer bodies are parsed on a thread, so that they do not hold up the event loop."""


class HotPaths:
    """Handlers by path. Work that takes long runs on a few threads; FAISS and numpy release the GIL.

    No thread waits for the disk to take a write: searches would wait behind it.
    """

    def __init__(self, buffer: ExperienceBuffer) -> None:
        self._buffer = buffer
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="api")
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="admin")
        self._pending = 0
        self._writes = Writes(buffer.writer)
        self.searches = Searches(buffer, self.on_thread, before=self._writes.put_all)
        self.handlers: dict[str, Handler] = {
            "/v1/experiences": self.append,
            "/v1/search": self.searches.answer,
            "/v1/sample": self.sample,
            "/v1/priorities": self.priorities,
            "/v1/outcomes": self.outcomes,
        }
        """By path, for POST. They are run by ``Driven``."""

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def close(self) -> None:
        """Finish what runs."""
        self.searches.close()
        self._threads.shutdown()
        self._aside.shutdown()

    async def on_thread(self, call: Callable[[], T]) -> T:
        """Run on a thread; raises OverloadedError when too many calls are waiting."""
        limit = self._buffer.settings.server.pending_searches_max
        if self._pending >= limit:
            raise OverloadedError(f"{limit} requests are waiting; nothing was done")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        finally:
            self._pending -= 1

    async def aside(self, call: Callable[[], T]) -> T:
        """Run what takes long and comes seldom on a thread of its own, beside the searches."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, call)

    async def append(self, request: Request) -> Answer:
        """POST /v1/experiences."""
        future: Pending[Appended] = Pending(self._loop)

        def write() -> Write[Appended]:
            return self._buffer.append_to(future, decode(request, AppendBody).experiences)

        self._writes.put(write() if len(request.body) <= _INLINE_BYTES_MAX else await self.on_thread(write))
        appended = await future
        return encode(request, AppendAnswer(appended.ids, appended.sequence), HTTPStatus.CREATED)

    async def sample(self, request: Request) -> Answer:
        """POST /v1/sample."""
        return await self.on_thread(lambda: sampling.answer(self._buffer, request))

    async def priorities(self, request: Request) -> Answer:
        """POST /v1/priorities."""
        body = decode(request, PrioritiesBody)
        updates = [PriorityUpdate(item.id, item.priority, item.sequence) for item in body.updates]
        future: Pending[list[UpdateStatus]] = Pending(self._loop)
        self._writes.put(self._buffer.update_priorities_to(future, updates))
        statuses = await future
        return encode(request, _updates([update.id for update in updates], statuses))

    async def outcomes(self, request: Request) -> Answer:
        """POST /v1/outcomes."""
        body = decode(request, OutcomesBody)
        outcomes = [(item.id, item.success) for item in body.outcomes]
        future: Pending[list[UpdateStatus]] = Pending(self._loop)
        self._writes.put(self._buffer.report_outcomes_to(future, outcomes, body.request_id))
        statuses = await future
        return encode(request, _updates([experience for experience, _ in outcomes], statuses))


def _updates(ids: list[int], statuses: list[UpdateStatus]) -> UpdatesAnswer:
    return UpdatesAnswer([UpdateAnswer(experience, status) for experience, status in zip(ids, statuses, strict=True)])
