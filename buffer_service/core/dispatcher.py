"""Searches of many callers as few calls: one thread that, whenever it is free, takes all that waits as one batch.

It never waits for a batch to fill: alone, a search goes at once; under load, batches grow by themselves. What its
caller has given up is dropped. The answers of a batch reach an event loop with one wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from buffer_service.core.pending import Waiting
from buffer_service.errors import OverloadedError
from buffer_service.index.main import Effort
from buffer_service.index.metric import Vectors
from buffer_service.index.view import Found

log = logging.getLogger(__name__)

BATCH_ROWS_MAX = 64
"""Rows of one batch; what waits longer waits for the next, so that a batch stays a matter of a few milliseconds."""

Answer = Found | BaseException


@dataclass(slots=True, eq=False)
class Search:
    """(n, dimension) float32 queries, n <= BATCH_ROWS_MAX, and the future that gets the answer, on its own loop."""

    queries: Vectors
    k: int
    effort: Effort
    future: Waiting[Found]


class Dispatcher:
    """Batches searches. ``search`` runs on the dispatcher's thread; where it raises for a batch, each goes alone."""

    def __init__(self, search: Callable[[Vectors, int, Effort], Found], waiting_max: int) -> None:
        self._search = search
        self._waiting_max = waiting_max
        self._queue: queue.SimpleQueue[Search | None] = queue.SimpleQueue()
        self._left_over: Search | None = None
        self._closed = False
        self.batches = 0
        """Batches since the start."""
        self.rows = 0
        """Queries in them."""
        self.dropped = 0
        """Searches given up by their callers before their turn came."""
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Searches that wait for the next batch."""
        return self._queue.qsize()

    def put(self, search: Search) -> None:
        """Queue a search; raises OverloadedError when too many are waiting, or it is closed."""
        if self._closed:
            raise OverloadedError("the buffer is shutting down; nothing was done")
        if self._queue.qsize() >= self._waiting_max:
            raise OverloadedError(f"{self._waiting_max} searches are waiting; nothing was done")
        self._queue.put(search)

    def close(self) -> None:
        """Answer what was queued before, and stop."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            batch, closing = self._take()
            dropped = [search for search in batch if search.future.cancelled()]
            self.dropped += len(dropped)
            wanted = [search for search in batch if search not in dropped] if dropped else batch
            groups: dict[tuple[int, Effort], list[Search]] = {}
            for search in wanted:
                groups.setdefault((search.k, search.effort), []).append(search)
            answers: list[tuple[Search, Answer]] = [(search, _gone()) for search in dropped]
            for group in groups.values():
                self.batches += 1
                self.rows += sum(len(search.queries) for search in group)
                answers += zip(group, self._answers(group), strict=True)
            _deliver(answers)
            if closing:
                return

    def _take(self) -> tuple[list[Search], bool]:
        """Wait for one search and take what else is there, up to a whole batch; true when there will be no more."""
        search, self._left_over = self._left_over or self._queue.get(), None
        taken: list[Search] = []
        rows = 0
        while search is not None:
            rows += len(search.queries)
            if taken and rows > BATCH_ROWS_MAX:
                self._left_over = search
                return taken, False
            taken.append(search)
            try:
                search = self._queue.get_nowait()
            except queue.Empty:
                return taken, False
        return taken, True

    def _answers(self, group: list[Search]) -> list[Answer]:
        try:
            queries = np.concatenate([search.queries for search in group]) if len(group) > 1 else group[0].queries
            found = self._search(queries, group[0].k, group[0].effort)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            return [error] if len(group) == 1 else [self._answers([search])[0] for search in group]
        ends = np.cumsum([len(search.queries) for search in group]).tolist()
        starts = [0, *ends[:-1]]
        return [
            Found(found.ids[start:end], found.scores[start:end], found.sequence, found.generation)
            for start, end in zip(starts, ends, strict=True)
        ]


def _gone() -> OverloadedError:
    return OverloadedError("the caller has gone; nothing was done")


def _deliver(answers: list[tuple[Search, Answer]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Search, Answer]]] = {}
    for search, answer in answers:
        by_loop.setdefault(search.future.get_loop(), []).append((search, answer))
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_answer_all, group)
        except RuntimeError:
            log.debug("the loop of %d searches is closed: nobody waits for them", len(group))


def _answer_all(answers: list[tuple[Search, Answer]]) -> None:
    for search, answer in answers:
        with contextlib.suppress(asyncio.InvalidStateError):  # given up meanwhile
            if isinstance(answer, BaseException):
                search.future.set_exception(answer)
            else:
                search.future.set_result(answer)
