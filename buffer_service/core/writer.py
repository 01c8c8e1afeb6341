"""The writer: one thread through which every change goes, in groups.

It takes all that is waiting, plans it as one group, commits the group with one fsync, publishes it to memory, and only
then answers. While it commits, the next group gathers; so under load the cost of the fsync is shared (group commit).
Beside searches it rests between groups, see ``precedence``.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from buffer_service.core import appending
from buffer_service.core.plan import Plan, Space
from buffer_service.core.precedence import Precedence, Searches
from buffer_service.core.retrievals import Retrievals
from buffer_service.core.serving import Coming
from buffer_service.core.write import Call, Write, deliver
from buffer_service.errors import ExperienceBufferError, OutcomeUnknownError, OverloadedError, StorageFullError
from buffer_service.settings import Settings
from buffer_service.storage.base import Store
from buffer_service.storage.group import Group

log = logging.getLogger(__name__)

_GROUP_REQUESTS_MAX = 1024
FLUSH_INTERVAL_S = 1.0
"""Time after which retrieval counts are committed,"""
_NEXT_FLUSH_S = FLUSH_INTERVAL_S / 2
"""and the next of them where there are too many for one commit, which would hold up the searches."""

T = TypeVar("T")


class _PlanningFailedError(Exception):
    """A request failed in planning for a reason that is not the caller's; it has been settled."""


class Writer:
    """Owns the table and the store's commits. ``publish`` is called on the writer thread after each commit."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        publish: Callable[[Group, Coming | None], None],
        delta_room: Callable[[], int],
        retrievals: Retrievals,
        searches: Searches,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._settings = settings
        self._publish = publish
        self._delta_room = delta_room
        self._retrievals = retrievals
        self._clock = clock
        self._flushed_at = time.monotonic()
        self._queue: queue.SimpleQueue[Write[Any] | Call[Any] | None] = queue.SimpleQueue()
        self._closing = False
        self._at_work = False
        self._precedence = Precedence(searches)
        self.failure = ""
        """Why commits are refused until the process is restarted; empty while they are taken."""
        self.groups = 0
        """Groups committed since the start."""
        self.operations = 0
        """Operations in them."""
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether it works on a write, or one waits. Any thread may ask."""
        return self._at_work or not self._queue.empty()

    @property
    def rested_s(self) -> float:
        """Seconds since the start in which it let searches go first."""
        return self._precedence.rested_s

    def submit(self, plan: Callable[[Plan], T]) -> Future[T]:
        """Queue a write; the future is answered when it is durable and visible. Raises OverloadedError."""
        future: Future[T] = Future()
        self.put(Write(plan, future))
        return future

    def put(self, request: Write[T]) -> None:
        """Queue a write whose future may belong to an event loop. Raises OverloadedError."""
        self._require_room()
        self._queue.put(request)

    def between_groups(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call that runs on the writer thread while nothing is half done. Raises OverloadedError."""
        self._require_room()
        future: Future[T] = Future()
        self._queue.put(Call(call, future))
        return future

    def close(self) -> None:
        """Finish what is queued, flush the retrieval counts, stop the thread."""
        self._closing = True
        self._queue.put(None)
        self._thread.join()

    def _require_room(self) -> None:
        if self._closing:
            raise OverloadedError("the buffer is shutting down; nothing was done")
        limit = self._settings.server.pending_writes_max
        if self._queue.qsize() >= limit:
            raise OverloadedError(f"{limit} writes are waiting; nothing was done")

    def _run(self) -> None:
        while not self._closing or not self._queue.empty():
            writes, call = self._gather()
            self._precedence.begin()
            self._commit_all(writes)
            deliver(writes)
            if call is not None:
                call.run()
            self._at_work = False
            if not self._closing and self._queue.qsize() < self._settings.server.pending_writes_max // 2:
                self._precedence.give()
        self._commit_all([])

    def _gather(self) -> tuple[list[Write[Any]], Call[Any] | None]:
        """Wait for one request and take what else is there, up to one that has to run alone."""
        gathered: list[Write[Any]] = []
        try:
            request = self._queue.get(timeout=self._flush_after_s)
            self._at_work = True
            while request is not None and len(gathered) < _GROUP_REQUESTS_MAX:
                if isinstance(request, Call):
                    return gathered, request
                if request.future.cancelled():
                    log.debug("a write was given up by its caller before it began")
                else:
                    gathered.append(request)
                request = self._queue.get_nowait()
        except queue.Empty:
            pass
        return gathered, None

    def _commit_all(self, requests: Sequence[Write[Any]]) -> None:
        """Commit as one group; whatever goes wrong, every request is settled and the thread goes on."""
        try:
            self._commit_group(requests)
        except StorageFullError as error:
            self._one_by_one(requests, error)
        except _PlanningFailedError:
            self._commit_all([request for request in requests if not request.settled])
        except Exception as error:  # noqa: BLE001 - unknown means that durability is unknown: latch
            self._latch(error)
            unknown = OutcomeUnknownError(f"durability of the write could not be confirmed: {self.failure}")
            _fail_all(requests, unknown)

    def _one_by_one(self, requests: Sequence[Write[Any]], error: StorageFullError) -> None:
        """Commit each request alone, for what frees space (a removal) still goes through on a full disk."""
        left = [request for request in requests if not request.settled]
        if len(left) == 1:
            left[0].fail(error)
            return
        for request in left:
            self._commit_all([request])

    def _commit_group(self, requests: Sequence[Write[Any]]) -> None:
        if self.failure:
            _fail_all(requests, OutcomeUnknownError(f"writes stopped until the process is restarted: {self.failure}"))
            return
        appending.finish(
            [request.appends for request in requests if request.appends is not None], self._settings.embedding
        )
        group = Group.on(self._store.table)
        plan = Plan(group, self._settings, self._delta_room(), self._clock(), self._space())
        # Refusals wait for the commit as well: what they refer to may be planned in this very group.
        answers = [(request, *self._plan_one(request, plan)) for request in requests]
        self._count_retrievals(plan)
        if group.operations:
            self._store.commit(group)
            self.groups += 1
            self.operations += len(group.operations)
            self._publish(group, plan.coming)
        elif not requests:
            self._store.commit(group)  # notices a process that has taken over the store
        for request, answer, refusal in answers:
            if refusal is None:
                request.succeed(answer)
            else:
                request.fail(refusal)

    def _space(self) -> Space | None:
        limit_bytes = self._settings.buffer.capacity_bytes
        if limit_bytes is None:
            return None
        used_bytes = self._store.live_bytes()
        return Space(limit_bytes - used_bytes, used_bytes // max(1, len(self._store.table)))

    def _plan_one(self, request: Write[Any], plan: Plan) -> tuple[Any, ExperienceBufferError | None]:
        try:
            return request.plan(plan), None
        except ExperienceBufferError as error:
            return None, error
        except Exception as error:
            # The group may hold half of this request: it is given up, and planned anew without it.
            log.exception("a write could not be planned")
            request.fail(error)
            raise _PlanningFailedError from error

    def _count_retrievals(self, plan: Plan) -> None:
        now = time.monotonic()
        if self._closing or now - self._flushed_at >= self._flush_after_s:
            self._flushed_at = now
            self._at_work = True
            plan.count_retrievals(self._retrievals.take())

    @property
    def _flush_after_s(self) -> float:
        return _NEXT_FLUSH_S if self._retrievals.behind else FLUSH_INTERVAL_S

    def _latch(self, error: Exception) -> None:
        self.failure = f"{type(error).__name__}: {error}"
        log.critical("writes stop until the process is restarted", exc_info=error)


def _fail_all(requests: Sequence[Write[Any]], error: Exception) -> None:
    for request in requests:
        if not request.settled:
            request.fail(error)
