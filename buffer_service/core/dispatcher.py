"""Searches of many callers as few calls: those of one turn of the event loop, or all that waits for a thread.

Short work is done on the loop itself, as soon as a look at the connections brings no more: to hand it to a thread and
its answers back takes longer, for both threads need the interpreter lock. What would hold the loop up goes to one
thread that, whenever it is free, takes all that waits as one batch. Either has its batches done by several threads of
FAISS where that is quicker. Nothing ever waits for a batch to fill: alone, a search goes at once; under load, batches
grow by themselves. What its caller has given up is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from buffer_service.core.pace import BATCH_ROWS_MAX, Pace
from buffer_service.core.pending import Waiting
from buffer_service.core.turn import Turn
from buffer_service.errors import OverloadedError
from buffer_service.index import openmp
from buffer_service.index.main import Effort
from buffer_service.index.metric import Vectors
from buffer_service.index.view import Found

log = logging.getLogger(__name__)

_IDLE_S = 0.1
"""After so long without a search a thread gives up the cores over which it spread its searches."""

Answer = Found | BaseException


@dataclass(slots=True, eq=False)
class Search:
    """(n, dimension) float32 queries, n <= BATCH_ROWS_MAX, and the future that gets the answer, on its own loop."""

    queries: Vectors
    k: int
    effort: Effort
    future: Waiting[Found]


@dataclass(slots=True)
class _Counts:
    """What one thread has done; each has its own, so that none is lost."""

    batches: int = 0
    rows: int = 0
    dropped: int = 0


class Dispatcher:
    """Batches searches. ``search`` runs on the loop or on a thread; where it raises for a batch, each goes alone.

    ``inline`` tells whether the loop may search at all. ``before`` is called before it does, for what other threads are
    to begin meanwhile; ``disturbed`` tells whether one of them needs a core now. Searches are put on one event loop.
    """

    def __init__(
        self,
        search: Callable[[Vectors, int, Effort], Found],
        waiting_max: int,
        *,
        inline: Callable[[], bool],
        before: Callable[[], None] = lambda: None,
        disturbed: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._search = search
        self._waiting_max = waiting_max
        self._inline = inline
        self._before = before
        self._disturbed = disturbed
        self._clock = clock
        self._turn: Turn[Search] = Turn(self._end_turn, BATCH_ROWS_MAX)
        self._pace = Pace(openmp.core_free)
        self._team_at: float | None = None
        """When the loop's team last searched, None where the loop has none."""
        self._queue: queue.SimpleQueue[Search | None] = queue.SimpleQueue()
        self._left_over: Search | None = None
        self._closed = False
        self._on_loop, self._on_thread = _Counts(), _Counts()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._thread.start()

    @property
    def batches(self) -> int:
        """Batches since the start."""
        return self._on_loop.batches + self._on_thread.batches

    @property
    def rows(self) -> int:
        """Queries in them."""
        return self._on_loop.rows + self._on_thread.rows

    @property
    def dropped(self) -> int:
        """Searches given up by their callers before their turn came."""
        return self._on_loop.dropped + self._on_thread.dropped

    def put(self, search: Search) -> None:
        """Take a search; raises OverloadedError when too many are waiting, or it is closed."""
        if self._closed:
            raise OverloadedError("the buffer is shutting down; nothing was done")
        if self._queue.qsize() + len(self._turn) >= self._waiting_max:
            raise OverloadedError(f"{self._waiting_max} searches are waiting; nothing was done")
        if not self._inline():
            self._queue.put(search)
            return
        self._turn.add(search, search.future.get_loop())

    def close(self) -> None:
        """Answer what was queued before, and stop. On the loop's thread."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        openmp.give_up()

    def _end_turn(self, batch: list[Search]) -> None:
        """Search on the loop what came in this turn, or give it to the thread where that would take long.

        What had not been looked for would wait for this batch, and be a small one of its own that takes longer.
        """
        rows = sum(len(search.queries) for search in batch)
        if not self._closed and not self._pace.short(rows):
            for search in batch:
                self._queue.put(search)
            return
        self._before()
        disturbed = self._disturbed()
        team = not disturbed and self._pace.team(rows) and openmp.spread(small=True)
        if not team:
            openmp.alone()
        began = self._clock()
        answers = self._answered(batch, self._on_loop)
        ended = self._clock()
        self._pace.learn(rows, (ended - began) / rows, team=team, disturbed=disturbed)
        if team:
            if self._team_at is None:
                batch[0].future.get_loop().call_later(_IDLE_S, self._look_at_team)
            self._team_at = ended
        _answer_all(answers)

    def _look_at_team(self) -> None:
        """Give up the cores when the loop's team has not searched for a while, or look again later."""
        if self._team_at is not None and self._clock() - self._team_at < _IDLE_S:
            asyncio.get_running_loop().call_later(_IDLE_S, self._look_at_team)
        else:
            self._team_at = None
            openmp.give_up()

    def _run(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._take()
            openmp.spread(small=False)
            _deliver(self._answered(batch, self._on_thread))
        openmp.give_up()

    def _answered(self, batch: list[Search], counts: _Counts) -> list[tuple[Search, Answer]]:
        """Return an answer for each search, those of one kind from one call."""
        dropped = [search for search in batch if search.future.cancelled()]
        counts.dropped += len(dropped)
        answers: list[tuple[Search, Answer]] = [(search, _gone()) for search in dropped]
        wanted = [search for search in batch if search not in dropped] if dropped else batch
        for group in _alike(wanted):
            counts.batches += 1
            counts.rows += sum(len(search.queries) for search in group)
            answers += zip(group, self._answers(group), strict=True)
        return answers

    def _take(self) -> tuple[list[Search], bool]:
        """Wait for one search and take what else is there, up to a whole batch; true when there will be no more."""
        search, self._left_over = self._left_over or self._wait(), None
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

    def _wait(self) -> Search | None:
        """Wait for a search; the cores over which the last ones were spread are given up where none comes soon."""
        try:
            return self._queue.get(timeout=_IDLE_S)
        except queue.Empty:
            openmp.give_up()
            return self._queue.get()

    def _answers(self, group: list[Search]) -> list[Answer]:
        try:
            queries = np.concatenate([search.queries for search in group]) if len(group) > 1 else group[0].queries
            found = self._search(queries, group[0].k, group[0].effort)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            return [error] if len(group) == 1 else [self._answers([search])[0] for search in group]
        bounds = [0, *accumulate([len(search.queries) for search in group])]
        return [
            Found(found.ids[start:end], found.scores[start:end], found.sequence, found.generation)
            for start, end in pairwise(bounds)
        ]


def _alike(searches: list[Search]) -> Iterable[list[Search]]:
    """Return those that can be one call together."""
    if not searches:
        return []
    k, effort = searches[0].k, searches[0].effort
    if all(search.k == k and search.effort is effort for search in searches):  # nearly always, and soon found out
        return [searches]
    groups: dict[tuple[int, Effort], list[Search]] = {}
    for search in searches:
        groups.setdefault((search.k, search.effort), []).append(search)
    return groups.values()


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
        try:
            if isinstance(answer, BaseException):
                search.future.set_exception(answer)
            else:
                search.future.set_result(answer)
        except asyncio.InvalidStateError:
            log.debug("a search was given up while it was done")
