"""The writer: one thread through which every change goes, in groups.

It takes all that is waiting, plans it as one group, commits the group with one fsync, publishes it to memory, and only
then answers. While it commits, the next group gathers; so under load the cost of the fsync is shared (group commit).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from buffer_service.core.plan import Plan
from buffer_service.core.serving import Coming
from buffer_service.errors import ExperienceBufferError, OutcomeUnknownError, OverloadedError, StorageFullError
from buffer_service.settings import Settings
from buffer_service.storage.base import Store
from buffer_service.storage.group import Group

log = logging.getLogger(__name__)

_GROUP_REQUESTS_MAX = 1024
FLUSH_INTERVAL_S = 1.0
"""Longest time that retrieval counts stay in memory only."""

T = TypeVar("T")


@dataclass(slots=True)
class _Write(Generic[T]):
    plan: Callable[[Plan], T]
    future: Future[T]


@dataclass(slots=True)
class _Call(Generic[T]):
    """A call that needs the state between two groups."""

    run: Callable[[], T]
    future: Future[T]


class _PlanningFailedError(Exception):
    """A request failed in planning for a reason that is not the caller's; it has been answered."""


class Writer:
    """Owns the table and the store's commits. ``publish`` is called on the writer thread after each commit."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        publish: Callable[[Group, Coming | None], None],
        delta_room: Callable[[], int],
        take_retrievals: Callable[[], list[tuple[int, int, int]]],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._settings = settings
        self._publish = publish
        self._delta_room = delta_room
        self._take_retrievals = take_retrievals
        self._clock = clock
        self._flushed_at = time.monotonic()
        self._queue: queue.Queue[_Write[Any] | _Call[Any] | None] = queue.Queue(settings.server.pending_writes_max)
        self._closing = False
        self.failure = ""
        """Why commits are refused until the process is restarted; empty while they are taken."""
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, plan: Callable[[Plan], T]) -> Future[T]:
        """Queue a write; the future is answered when it is durable and visible. Raises OverloadedError."""
        return self._put(_Write(plan, Future()))

    def between_groups(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call that runs on the writer thread while nothing is half done."""
        return self._put(_Call(call, Future()))

    def close(self) -> None:
        """Finish what is queued, flush the retrieval counts, stop the thread."""
        self._closing = True
        self._queue.put(None)
        self._thread.join()

    def _put(self, request: _Write[T] | _Call[T]) -> Future[T]:
        if self._closing:
            raise OverloadedError("the buffer is shutting down; nothing was done")
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            waiting = self._settings.server.pending_writes_max
            raise OverloadedError(f"{waiting} writes are waiting; nothing was done") from None
        return request.future

    def _run(self) -> None:
        while not self._closing or not self._queue.empty():
            writes, call = self._gather()
            self._commit_all(writes)
            if call is not None:
                _answer(call)
        self._commit_all([])

    def _gather(self) -> tuple[list[_Write[Any]], _Call[Any] | None]:
        """Wait for one request and take what else is there, up to one that has to run alone."""
        gathered: list[_Write[Any]] = []
        try:
            request = self._queue.get(timeout=FLUSH_INTERVAL_S)
        except queue.Empty:
            return gathered, None
        while request is not None:
            if not request.future.set_running_or_notify_cancel():
                log.debug("a write was given up by its caller before it began")
            elif isinstance(request, _Call):
                return gathered, request
            else:
                gathered.append(request)
            if len(gathered) >= _GROUP_REQUESTS_MAX:
                break
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                break
        return gathered, None

    def _commit_all(self, requests: list[_Write[Any]]) -> None:
        """Commit as one group; whatever goes wrong, every request is answered and the thread goes on."""
        try:
            self._commit_group(requests)
        except StorageFullError as error:
            self._one_by_one(requests, error)
        except _PlanningFailedError:
            self._commit_all([request for request in requests if not request.future.done()])
        except Exception as error:  # noqa: BLE001 - unknown means that durability is unknown: latch
            self._latch(error)
            unknown = OutcomeUnknownError(f"durability of the write could not be confirmed: {self.failure}")
            for request in requests:
                if not request.future.done():
                    request.future.set_exception(unknown)

    def _one_by_one(self, requests: list[_Write[Any]], error: StorageFullError) -> None:
        """Commit each request alone, for what frees space (a removal) still goes through on a full disk."""
        left = [request for request in requests if not request.future.done()]
        if len(left) == 1:
            left[0].future.set_exception(error)
            return
        for request in left:
            self._commit_all([request])

    def _commit_group(self, requests: list[_Write[Any]]) -> None:
        if self.failure:
            unavailable = OutcomeUnknownError(f"writes stopped until the process is restarted: {self.failure}")
            for request in requests:
                request.future.set_exception(unavailable)
            return
        group = Group.on(self._store.table)
        plan = Plan(group, self._settings, self._delta_room(), self._clock())
        answers = [(request.future, self._plan_one(request, plan)) for request in requests]
        self._count_retrievals(plan)
        if group.operations:
            self._store.commit(group)
            self._publish(group, plan.coming)
        elif not requests:
            self._store.commit(group)  # notices a process that has taken over the store
        for future, answer in answers:
            if not future.done():
                future.set_result(answer)

    def _plan_one(self, request: _Write[Any], plan: Plan) -> Any:  # noqa: ANN401 - each request has its own answer
        try:
            return request.plan(plan)
        except ExperienceBufferError as error:
            request.future.set_exception(error)
        except Exception as error:
            # The group may hold half of this request: it is given up, and planned anew without it.
            log.exception("a write could not be planned")
            request.future.set_exception(error)
            raise _PlanningFailedError from error
        return None

    def _count_retrievals(self, plan: Plan) -> None:
        now = time.monotonic()
        if self._closing or now - self._flushed_at >= FLUSH_INTERVAL_S:
            self._flushed_at = now
            plan.count_retrievals(self._take_retrievals())

    def _latch(self, error: Exception) -> None:
        self.failure = f"{type(error).__name__}: {error}"
        log.critical("writes stop until the process is restarted", exc_info=error)


def _answer(call: _Call[Any]) -> None:
    try:
        call.future.set_result(call.run())
    except Exception as error:  # noqa: BLE001 - handed to whoever waits
        call.future.set_exception(error)
