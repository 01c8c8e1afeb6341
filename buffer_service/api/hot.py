"""The hot paths: append, search, sample, priorities, outcomes. From a request whose body was read to an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http import HTTPStatus
from typing import TypeVar

import numpy as np

from buffer_service.api.messages import OCTETS, Answer, Request, decode, encode
from buffer_service.api.schemas import (
    AppendAnswer,
    AppendBody,
    Hit,
    OutcomesBody,
    PrioritiesBody,
    SampleAnswer,
    SampleBody,
    SampleItem,
    SearchAnswer,
    SearchBody,
    UpdateAnswer,
    UpdatesAnswer,
)
from buffer_service.api.writes import Writes
from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.core.embedding import Vectors, fuse, prepare, to_matrix, to_vector
from buffer_service.core.plan import Appended, PriorityUpdate, UpdateStatus
from buffer_service.core.write import Write
from buffer_service.errors import InvalidRequestError, OverloadedError
from buffer_service.index.view import Found

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Answer]]

_THREADS = 2
_INLINE_BYTES_MAX = 64 * 1024
"""Longer bodies are parsed on a thread, so that they do not hold up the event loop."""


class HotPaths:
    """Handlers by method and path. Work that takes long runs on a few threads; FAISS and numpy release the GIL."""

    def __init__(self, buffer: ExperienceBuffer) -> None:
        self._buffer = buffer
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="api")
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="admin")
        self._pending = 0
        self._writes = Writes(buffer.writer)
        self.handlers: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/experiences"): self.append,
            ("POST", "/v1/search"): self.search,
            ("POST", "/v1/sample"): self.sample,
            ("POST", "/v1/priorities"): self.priorities,
            ("POST", "/v1/outcomes"): self.outcomes,
        }

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def close(self) -> None:
        """Finish what runs."""
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
        future: asyncio.Future[Appended] = self._loop.create_future()

        def write() -> Write[Appended]:
            return self._buffer.append_to(future, decode(request, AppendBody).experiences)

        self._writes.put(write() if len(request.body) <= _INLINE_BYTES_MAX else await self.on_thread(write))
        appended = await future
        return encode(request, AppendAnswer(appended.ids, appended.sequence), HTTPStatus.CREATED)

    async def search(self, request: Request) -> Answer:
        """POST /v1/search."""
        if request.content_type == OCTETS:
            return await self.on_thread(lambda: self._search_raw(request))
        return await self.on_thread(lambda: self._search(request))

    async def sample(self, request: Request) -> Answer:
        """POST /v1/sample."""
        return await self.on_thread(lambda: self._sample(request))

    async def priorities(self, request: Request) -> Answer:
        """POST /v1/priorities."""
        body = decode(request, PrioritiesBody)
        updates = [PriorityUpdate(item.id, item.priority, item.sequence) for item in body.updates]
        future: asyncio.Future[list[UpdateStatus]] = self._loop.create_future()
        self._writes.put(self._buffer.update_priorities_to(future, updates))
        statuses = await future
        return encode(request, _updates([update.id for update in updates], statuses))

    async def outcomes(self, request: Request) -> Answer:
        """POST /v1/outcomes."""
        body = decode(request, OutcomesBody)
        outcomes = [(item.id, item.success) for item in body.outcomes]
        future: asyncio.Future[list[UpdateStatus]] = self._loop.create_future()
        self._writes.put(self._buffer.report_outcomes_to(future, outcomes, body.request_id))
        statuses = await future
        return encode(request, _updates([experience for experience, _ in outcomes], statuses))

    def _search_raw(self, request: Request) -> Answer:
        queries = to_matrix(request.body, self._buffer.settings.embedding.dimension)
        found = self._buffer.search(
            queries, _number(request, "k", 10), min_sequence=_number(request, "min_sequence", 0)
        )
        headers = ((b"x-sequence", b"%d" % found.sequence), (b"x-generation", b"%d" % found.generation))
        body = found.ids.astype("<i8").tobytes() + found.scores.astype("<f4").tobytes()
        return Answer(body, OCTETS, headers=headers)

    def _search(self, request: Request) -> Answer:
        body = decode(request, SearchBody)
        queries = self._queries(body)
        found = self._buffer.search(queries, body.k, min_sequence=body.min_sequence, wanted=body.filter, prepared=True)
        return encode(request, self._hits(found, include=bool(body.include)))

    def _queries(self, body: SearchBody) -> Vectors:
        embedding = self._buffer.settings.embedding
        given = [body.vector is not None, body.vectors is not None, body.visual is not None or body.text is not None]
        if sum(given) != 1:
            raise InvalidRequestError("give either vector, or vectors, or visual and/or text")
        if body.vectors is not None:
            rows = [to_vector(row, embedding.dimension, f"vectors[{place}]") for place, row in enumerate(body.vectors)]
            empty = np.zeros((0, embedding.dimension), np.float32)
            return prepare(np.stack(rows), embedding, "vectors") if rows else empty
        if body.vector is not None:
            return prepare(to_vector(body.vector, embedding.dimension, "vector")[None, :], embedding, "vector")
        visual = None if body.visual is None else to_vector(body.visual, embedding.dimension, "visual")
        text = None if body.text is None else to_vector(body.text, embedding.dimension, "text")
        return fuse(visual, text, embedding)[None, :]

    def _hits(self, found: Found, *, include: bool) -> SearchAnswer:
        wanted = [int(experience) for experience in np.unique(found.ids) if experience > 0] if include else []
        experiences = dict(zip(wanted, self._buffer.get_many(wanted), strict=True)) if wanted else {}
        results = [
            [
                Hit(experience, score, experiences.get(experience))
                for experience, score in zip(ids, scores, strict=True)
                if experience > 0
            ]
            for ids, scores in zip(found.ids.tolist(), found.scores.tolist(), strict=True)
        ]
        return SearchAnswer(results, found.sequence, found.generation)

    def _sample(self, request: Request) -> Answer:
        body = decode(request, SampleBody)
        drawn = self._buffer.sample(body.size, beta=body.beta, unique=body.unique)
        ids = drawn.ids.tolist()
        experiences = self._buffer.get_many(ids) if body.include else [None] * len(ids)
        items = [
            SampleItem(*fields)
            for fields in zip(
                ids,
                drawn.probabilities.tolist(),
                drawn.weights.tolist(),
                drawn.versions.tolist(),
                experiences,
                strict=True,
            )
        ]
        return encode(request, SampleAnswer(items, drawn.table_size))


def _updates(ids: list[int], statuses: list[UpdateStatus]) -> UpdatesAnswer:
    return UpdatesAnswer([UpdateAnswer(experience, status) for experience, status in zip(ids, statuses, strict=True)])


def _number(request: Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise InvalidRequestError(f"{name} is {text!r}; give a whole number") from None
