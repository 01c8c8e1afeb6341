"""POST /v1/search: from a request to the dispatcher or, where it may take long, to a thread, and back to an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np

from buffer_service.api.contents import NOTHING, Contents, contents_of, require_room
from buffer_service.api.messages import OCTETS, Answer, Fields, Request, decode, encode, parameters
from buffer_service.api.schemas import Hit, Parts, SearchAnswer, SearchBody
from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.core.dispatcher import Dispatcher, Search
from buffer_service.core.embedding import Vectors, fuse, raw_rows, to_vector
from buffer_service.core.pace import BATCH_ROWS_MAX
from buffer_service.core.pending import Pending
from buffer_service.core.ranking import Rank, Ranked
from buffer_service.core.searching import SEQUENCE_TIMEOUT_S
from buffer_service.errors import InvalidRequestError
from buffer_service.index.main import TUNED, Effort
from buffer_service.index.view import Found

T = TypeVar("T")

_INLINE_BYTES_MAX = 64 * 1024
"""Longer bodies are parsed on a thread, so that they do not hold up the event loop."""
_SEQUENCE_POLL_S = 0.002
_HITS_INLINE_MAX = 2048
"""More hits are put into words on a thread."""
_K = 10
_ID, _SCORE = np.dtype("<i8"), np.dtype("<f4")


class OnThread(Protocol):
    """Runs a call on a thread; raises OverloadedError when too many are waiting."""

    def __call__(self, call: Callable[[], T]) -> Awaitable[T]:
        """Return what the call returns."""
        ...


@dataclass(slots=True)
class Question:
    """What a request asks for. Not frozen, for that takes thrice as long to make."""

    queries: Vectors
    k: int
    effort: Effort
    min_sequence: int
    wanted: dict[str, Any] | None = None
    rank: Rank | None = None
    include: Collection[str] = ()


class Searches:
    """Answers searches. On the event loop, but for what is said to be on a thread. ``before``: see Dispatcher."""

    def __init__(self, buffer: ExperienceBuffer, on_thread: OnThread, *, before: Callable[[], None]) -> None:
        self._buffer = buffer
        self._on_thread = on_thread
        self.dispatcher = Dispatcher(
            lambda queries, k, effort: buffer.search(queries, k, effort=effort),
            buffer.settings.server.pending_searches_max,
            inline=lambda: buffer.engine.backend.active == "cpu",  # a call to a GPU is waited for
            before=before,
            disturbed=lambda: buffer.writer.busy,
        )

    def close(self) -> None:
        """Answer what waits."""
        self.dispatcher.close()

    async def answer(self, request: Request) -> Answer:
        """Answer one request."""
        if request.content_type == OCTETS:
            return _raw(await self._find(self._raw_question(request)))
        if len(request.body) <= _INLINE_BYTES_MAX:
            question = self._question(request)
        else:
            question = await self._on_thread(lambda: self._question(request))
        found = await self._find(question)
        if question.include or found.ids.size > _HITS_INLINE_MAX:
            return await self._on_thread(lambda: encode(request, self._hits(found, question.include)))
        return encode(request, self._hits(found, ()))

    def _find(self, question: Question) -> Awaitable[Found]:
        """Begin a search, or to wait for its sequence number; one for the dispatcher takes no coroutine."""
        if self._buffer.serving.view.sequence < question.min_sequence:
            return self._find_later(question)
        if question.wanted or question.rank or not 1 <= len(question.queries) <= BATCH_ROWS_MAX:
            return self._on_thread(
                lambda: self._buffer.search(
                    question.queries,
                    question.k,
                    wanted=question.wanted,
                    rank=question.rank,
                    effort=question.effort,
                )
            )
        found: Pending[Found] = Pending(asyncio.get_running_loop(), droppable=True)
        self.dispatcher.put(Search(question.queries, question.k, question.effort, found))
        return found

    async def _find_later(self, question: Question) -> Found:
        await self._reach(question.min_sequence)
        return await self._find(question)

    async def _reach(self, sequence: int) -> None:
        deadline = time.monotonic() + SEQUENCE_TIMEOUT_S
        while self._buffer.serving.view.sequence < sequence and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_SEQUENCE_POLL_S)
        self._buffer.serving.wait_for(sequence, 0)

    def _raw_question(self, request: Request) -> Question:
        queries = raw_rows(request.body, self._buffer.settings.embedding.dimension)
        return Question(queries, *_asked(request.query)) if request.query else Question(queries, _K, TUNED, 0)

    def _question(self, request: Request) -> Question:
        body = decode(request, SearchBody)
        effort = Effort(body.probes, body.ef)
        queries = self._queries(body)
        require_room(self._buffer, body.include, len(queries) * body.k)
        return Question(queries, body.k, effort, body.min_sequence, body.filter, body.rank, body.include)

    def _queries(self, body: SearchBody) -> Vectors:
        embedding = self._buffer.settings.embedding
        given = [body.vector is not None, body.vectors is not None, body.visual is not None or body.text is not None]
        if sum(given) != 1:
            raise InvalidRequestError("give either vector, or vectors, or visual and/or text")
        if body.vectors is not None:
            rows = [to_vector(row, embedding.dimension, f"vectors[{place}]") for place, row in enumerate(body.vectors)]
            return np.stack(rows) if rows else np.zeros((0, embedding.dimension), np.float32)
        if body.vector is not None:
            return to_vector(body.vector, embedding.dimension, "vector")[None, :]
        visual = None if body.visual is None else to_vector(body.visual, embedding.dimension, "visual")
        text = None if body.text is None else to_vector(body.text, embedding.dimension, "text")
        return fuse(visual, text, embedding)[None, :]

    def _hits(self, found: Found, include: Collection[str]) -> SearchAnswer:
        contents = contents_of(self._buffer, found.ids.ravel().tolist(), include) if include else NOTHING
        results = [
            [_hit(experience, score, contents) for experience, score in zip(ids, scores, strict=True) if experience > 0]
            for ids, scores in zip(found.ids.tolist(), found.scores.tolist(), strict=True)
        ]
        if isinstance(found, Ranked):
            _add_parts(results, found)
        return SearchAnswer(results, found.sequence, found.generation)


def _hit(experience: int, score: float, contents: Contents) -> Hit:
    return Hit(experience, score, contents.experiences.get(experience), contents.vectors.get(experience))


def _add_parts(results: list[list[Hit]], ranked: Ranked) -> None:
    """Give each hit the parts of its score; hits come before the places that stand for nothing."""
    columns = (ranked.similarity.tolist(), ranked.success.tolist(), ranked.freshness.tolist())
    for hits, *parts in zip(results, *columns, strict=True):
        for hit, similarity, success, freshness in zip(hits, *parts, strict=False):
            hit.parts = Parts(similarity, success, freshness)


@lru_cache(1024)
def _asked(query: bytes) -> tuple[int, Effort, int]:
    """Return k, effort and min_sequence from a query string; raises InvalidRequestError."""
    given = parameters(query)
    k, min_sequence = _number(given, "k"), _number(given, "min_sequence")
    effort = Effort(_number(given, "probes"), _number(given, "ef"))
    return _K if k is None else k, effort, min_sequence or 0


def _number(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    try:
        return None if text is None else int(text)
    except ValueError:
        raise InvalidRequestError(f"{name} is {text!r}; give a whole number") from None


def _raw(found: Found) -> Answer:
    ids, scores = found.ids.astype(_ID, copy=False), found.scores.astype(_SCORE, copy=False)
    return Answer(ids.tobytes() + scores.tobytes(), OCTETS, headers=_found_at(found.sequence, found.generation))


@lru_cache(16)
def _found_at(sequence: int, generation: int) -> Fields:
    """Return the headers that say what was searched; those of one batch share them."""
    return ((b"x-sequence", b"%d" % sequence), (b"x-generation", b"%d" % generation))
