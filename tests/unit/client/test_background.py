"""The background appender: bounded, in groups, and nothing dropped silently."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from buffer_client import BackgroundAppender, Experience, IncompleteAppendError, RetryLaterError, calls
from buffer_client.errors import (
    AppenderFullError,
    ConflictError,
    FlushTimeoutError,
    OverloadedError,
    TooLargeError,
)
from tests.helpers.waiting import wait_until
from tests.unit.client.serving import Service, experiences, problem


def wait_for_request(service: Service) -> None:
    """Wait until the first request is held at the gate."""
    wait_until(lambda: service.requests, "a request is under way")


def test_what_was_flushed_is_acknowledged_in_the_order_it_was_put() -> None:
    """And the client's searches ask to see it."""
    service = Service()
    given = experiences(50)

    with service.client() as client, BackgroundAppender(client) as appender:
        for item in given:
            appender.put(item)
        appender.flush()

        assert list(service.ids) == [item.client_id for item in given]
        assert (client.sequence, len(appender)) == (50, 0)


def test_what_waits_is_sent_in_one_request() -> None:
    """While one is under way the next gathers, up to the bounds of a chunk."""
    service = Service(gate=threading.Event())
    given = experiences(11)

    with service.client() as client, BackgroundAppender(client, chunk_rows=6) as appender:
        appender.put(given[0])
        wait_for_request(service)
        for item in given[1:]:
            appender.put(item)
        service.gate.set()

    assert [len(request) for request in service.requests] == [1, 6, 4]


def test_groups_are_bounded_in_bytes() -> None:
    """As chunks of a stream are."""
    service = Service(gate=threading.Event())
    given = experiences(7)
    chunk_bytes = 2 * len(calls.encode(given[0]).body)

    with service.client() as client, BackgroundAppender(client, chunk_bytes=chunk_bytes) as appender:
        appender.put(given[0])
        wait_for_request(service)
        for item in given[1:]:
            appender.put(item)
        service.gate.set()

    assert [len(request) for request in service.requests] == [1, 2, 2, 2]


@pytest.mark.parametrize("bound", ["rows", "bytes"])
def test_a_full_appender_takes_no_more_until_there_is_room(bound: str) -> None:
    """The request under way counts; a put waits for its timeout and then says so, without taking the experience."""
    service = Service(gate=threading.Event())
    given = experiences(4)
    size_bytes = len(calls.encode(given[0]).body)
    bounds = {"rows_max": 3} if bound == "rows" else {"bytes_max": 3 * size_bytes}

    with service.client() as client, BackgroundAppender(client, **bounds) as appender:
        for item in given[:3]:
            appender.put(item)
        with pytest.raises(AppenderFullError, match="3 experiences") as caught:
            appender.put(given[3], timeout_s=0.01)
        assert (len(appender), isinstance(caught.value, RetryLaterError)) == (3, True)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(appender.put, given[3], 30.0)
            service.gate.set()
            waiting.result()

    assert list(service.ids) == [item.client_id for item in given]


def test_an_experience_that_can_never_fit_is_refused() -> None:
    """Waiting for room would not help."""
    with Service().client() as client:
        appender = BackgroundAppender(client, bytes_max=1000)
        with pytest.raises(TooLargeError):
            appender.put(experiences(1, question="x" * 2000)[0])
        appender.close()


def test_what_is_wrong_with_an_experience_is_said_when_it_is_put() -> None:
    """Not later, by another's put; the appender goes on."""
    service = Service()

    with service.client() as client, BackgroundAppender(client) as appender:
        with pytest.raises(ValueError, match="matrix of 2"):
            appender.put(Experience(visual=[[1.0], [2.0]], confidence=0.5))
        appender.put(experiences(1)[0])

    assert len(service.ids) == 1


def test_what_is_written_into_an_array_after_its_put_changes_nothing() -> None:
    """The content is that of the put: actors reuse their arrays."""
    service = Service(gate=threading.Event())
    pixels = np.array([1.0, 2.0], np.float32)

    with service.client() as client, BackgroundAppender(client) as appender:
        appender.put(Experience(visual=pixels, confidence=0.5))
        pixels[:] = 9.0
        service.gate.set()

    assert service.requests[0][0]["visual"] == np.array([1.0, 2.0], "<f4").tobytes()


def test_an_experience_that_waits_already_is_held_once() -> None:
    """A request must not name a client_id twice; with another content it is a conflict at once."""
    service = Service(gate=threading.Event())
    first, second = experiences(2)
    other = Experience(visual=[5.0, 5.0], confidence=0.5, client_id=second.client_id)

    with service.client() as client, BackgroundAppender(client) as appender:
        for item in (first, second, second):
            appender.put(item)
        with pytest.raises(ConflictError):
            appender.put(other)
        service.gate.set()
        appender.flush()
        appender.put(second)

    assert list(service.ids) == [first.client_id, second.client_id]
    assert [item["client_id"] for item in service.requests[-1]] == [second.client_id]


@pytest.mark.parametrize("told_by", ["put", "flush", "close"])
def test_what_was_not_acknowledged_comes_back_with_the_next_call(told_by: str) -> None:
    """All of it, in order, with the reason; after the client's own retries."""
    service = Service(refuse=lambda _: problem(503, "overloaded"), gate=threading.Event())
    given = experiences(5)

    with service.client(retries=2) as client:
        appender = BackgroundAppender(client, chunk_rows=2)
        for item in given[:4]:
            appender.put(item)
        service.gate.set()
        if told_by == "put":
            wait_until(lambda: not len(appender), "the failure is known")
        call = {"put": lambda: appender.put(given[4]), "flush": appender.flush, "close": appender.close}[told_by]
        with pytest.raises(IncompleteAppendError) as caught:
            call()
        appender.close()

    assert caught.value.unacknowledged == tuple(given if told_by == "put" else given[:4])
    assert isinstance(caught.value.cause, OverloadedError)
    assert len(service.requests) == 3


def test_after_a_failure_the_appender_can_be_used_on() -> None:
    """What came back is put again; nothing is there twice, though the answer to the first request was lost."""
    service = Service()
    lost = [httpx.ReadError("lost")]
    given = experiences(6)

    def answer_lost(chunk: list[dict[str, Any]]) -> httpx.Response | None:
        service.ids.update((item["client_id"], len(service.ids) + 1) for item in chunk[:1])
        if lost:
            raise lost.pop()
        return None

    service.refuse = answer_lost
    with service.client() as client, BackgroundAppender(client) as appender:
        appender.put(given[0])
        with pytest.raises(IncompleteAppendError) as caught:
            appender.flush()
        for item in (*caught.value.unacknowledged, *given[1:]):
            appender.put(item)
        appender.flush()

    assert sorted(service.ids) == sorted(item.client_id for item in given)


@pytest.mark.parametrize(("status", "code"), [(422, "invalid-request"), (409, "conflict"), (413, "too-large")])
def test_one_experience_that_is_refused_takes_no_other_with_it(status: int, code: str) -> None:
    """The group is made smaller until it is alone; order is kept."""
    given = experiences(40)
    service = Service(gate=threading.Event())
    service.refuse = lambda chunk: problem(status, code) if any(i["answer"] == "17" for i in chunk) else None

    with service.client() as client, BackgroundAppender(client) as appender:
        for item in given:
            appender.put(item)
        service.gate.set()
        with pytest.raises(IncompleteAppendError) as caught:
            appender.flush()
        appender.flush()

    assert caught.value.unacknowledged == (given[17],)
    assert caught.value.code == code
    assert list(service.ids) == [item.client_id for place, item in enumerate(given) if place != 17]
    assert len(service.requests) < 20


def test_a_refusal_of_the_caller_is_no_reason_to_try_each_alone() -> None:
    """A missing token is the same for all."""
    service = Service(refuse=lambda _: problem(401, "unauthorized"), gate=threading.Event())

    with service.client() as client:
        appender = BackgroundAppender(client)
        for item in experiences(20):
            appender.put(item)
        service.gate.set()
        with pytest.raises(IncompleteAppendError) as caught:
            appender.close()

    assert (len(caught.value.unacknowledged), len(service.requests)) == (20, 1)


def test_every_flush_that_waited_hears_of_the_failure() -> None:
    """Else one thread would take the error, and the other believe that all is durable."""
    service = Service(refuse=lambda _: problem(503, "overloaded"), gate=threading.Event())
    given = experiences(3)

    with service.client() as client, ThreadPoolExecutor(2) as threads:
        appender = BackgroundAppender(client)
        for item in given:
            appender.put(item)
        flushes = [threads.submit(appender.flush, 30.0) for _ in range(2)]
        wait_until(lambda: len(appender._changed._waiters) == 2, "both wait")  # type: ignore[attr-defined]
        service.gate.set()
        errors = [flush.exception() for flush in flushes]
        appender.close()

    assert [type(error) for error in errors] == [IncompleteAppendError] * 2
    assert [error.unacknowledged for error in errors] == [tuple(given)] * 2  # type: ignore[union-attr]


def test_a_flush_waits_no_longer_than_it_may_and_loses_nothing() -> None:
    """What was put after the flush began is not waited for."""
    service = Service(gate=threading.Event())

    with service.client() as client, BackgroundAppender(client) as appender:
        appender.put(experiences(1)[0])
        with pytest.raises(FlushTimeoutError, match="1 experiences"):
            appender.flush(timeout_s=0.01)
        service.gate.set()
        appender.flush()

        assert len(service.ids) == 1


def test_an_error_of_the_body_does_not_keep_what_was_put_from_being_sent() -> None:
    """Leaving the block sends what waits in any case."""
    service = Service()

    def fail_between() -> None:
        with BackgroundAppender(client) as appender:
            appender.put(experiences(1)[0])
            raise KeyError

    with service.client() as client, pytest.raises(KeyError):
        fail_between()

    assert len(service.ids) == 1


def test_a_closed_appender_takes_nothing() -> None:
    """It would never be sent. Closing twice is closing once."""
    with Service().client() as client:
        appender = BackgroundAppender(client)
        appender.close()
        appender.close()
        with pytest.raises(RuntimeError, match="closed"):
            appender.put(experiences(1)[0])


def test_a_client_that_was_closed_first_is_a_failure_like_any_other() -> None:
    """The experiences come back; the thread does not die of it."""
    client = Service().client()
    client.close()
    appender = BackgroundAppender(client)
    (item,) = experiences(1)
    appender.put(item)

    with pytest.raises(IncompleteAppendError, match="closed") as caught:
        appender.close()

    assert caught.value.unacknowledged == (item,)


def test_many_threads_may_put_at_once() -> None:
    """Each experience arrives once, those of one thread in their order, and the bound is kept."""
    service = Service()
    held = []
    parts = [experiences(200) for _ in range(4)]

    with service.client() as client, BackgroundAppender(client, rows_max=10) as appender:

        def put_all(part: list[Experience]) -> None:
            for item in part:
                appender.put(item, timeout_s=30.0)
                held.append(len(appender))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(put_all, parts))

    assert max(held) <= 10
    arrived = list(service.ids)
    assert len(arrived) == 800
    for part in parts:
        places = [arrived.index(item.client_id) for item in part]
        assert places == sorted(places)
