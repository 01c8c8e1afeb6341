"""Any number of experiences in requests of bounded size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from buffer_client import Experience, IncompleteStreamError, RejectedError, RetryLaterError, calls
from buffer_client.errors import OverloadedError
from tests.unit.client.serving import Service, experiences, problem


def test_chunks_are_bounded_in_rows_and_their_ids_come_back_in_order() -> None:
    """However many there are."""
    service = Service()

    with service.client() as client:
        result = client.append_stream(iter(experiences(10)), chunk_rows=4)

    assert [len(request) for request in service.requests] == [4, 4, 2]
    assert result.ids.tolist() == list(range(1, 11))
    assert result.sequence == client.sequence == 10


def test_chunks_are_bounded_in_bytes() -> None:
    """One that is larger than a chunk goes alone, for the service to judge."""
    service = Service()
    given = [*experiences(3), *experiences(1, question="x" * 2000), *experiences(1)]
    size_bytes = len(calls.encode(given[0]).body)

    with service.client() as client:
        client.append_stream(given, chunk_bytes=2 * size_bytes + 10)

    assert [len(request) for request in service.requests] == [2, 1, 1, 1]


def test_nothing_is_read_ahead_of_what_was_acknowledged() -> None:
    """Memory holds one chunk, and a slow buffer slows the source."""
    service = Service()
    acknowledged_when_read = []

    def source() -> Iterator[Experience]:
        for item in experiences(6):
            acknowledged_when_read.append(len(service.ids))
            yield item

    with service.client() as client:
        client.append_stream(source(), chunk_rows=2)

    assert acknowledged_when_read == [0, 0, 0, 2, 2, 4]


def test_an_empty_stream_sends_nothing() -> None:
    """There is nothing to acknowledge, and nothing to wait for."""
    service = Service()

    with service.client() as client:
        result = client.append_stream([])

    assert (result.ids.tolist(), result.sequence, service.requests) == ([], 0, [])


def test_an_experience_that_comes_twice_gets_its_id_twice() -> None:
    """A request must not name a client_id twice, so the repetition goes into the next."""
    service = Service()
    first, second = experiences(2)

    with service.client() as client:
        result = client.append_stream([first, second, first])

    assert result.ids.tolist() == [1, 2, 1]
    assert [len(request) for request in service.requests] == [2, 1]


def test_a_failing_chunk_says_what_was_acknowledged_and_what_was_not() -> None:
    """With the kind of the cause, so that the caller knows whether to go on."""
    given = experiences(10)
    service = Service(refuse=lambda chunk: problem(503, "overloaded") if chunk[0]["answer"] == "4" else None)

    with service.client(retries=1) as client, pytest.raises(IncompleteStreamError) as caught:
        client.append_stream(given, chunk_rows=2)

    error = caught.value
    assert error.acknowledged.ids.tolist() == [1, 2, 3, 4]
    assert error.unacknowledged == tuple(given[4:7])
    assert isinstance(error.cause, OverloadedError)
    assert (error.code, error.status, error.retry_after_s) == ("overloaded", 503, 0.0)
    assert "4 experiences were acknowledged" in str(error)
    assert not isinstance(error, RetryLaterError | RejectedError)


def test_a_stream_that_failed_can_be_gone_on_with() -> None:
    """The unacknowledged first, then the rest of the same iterable: every experience once, in order."""
    given = experiences(9)
    failures = [problem(503, "overloaded")]
    service = Service(refuse=lambda chunk: failures.pop() if len(chunk) == 2 and failures else None)
    rest = iter(given)

    with service.client() as client:
        with pytest.raises(IncompleteStreamError) as caught:
            client.append_stream(rest, chunk_rows=2)
        client.append_stream([*caught.value.unacknowledged, *rest], chunk_rows=2)

    assert list(service.ids) == [item.client_id for item in given]


def test_a_source_that_fails_leaves_no_doubt_either() -> None:
    """What was read before and waits for its chunk is handed back."""
    given = experiences(5)

    def source() -> Iterator[Experience]:
        yield from given
        raise OSError("the disk is gone")

    with Service().client() as client, pytest.raises(IncompleteStreamError, match="disk is gone") as caught:
        client.append_stream(source(), chunk_rows=4)

    assert caught.value.acknowledged.ids.tolist() == [1, 2, 3, 4]
    assert caught.value.unacknowledged == (given[4],)
    assert isinstance(caught.value.__cause__, OSError)


def test_an_experience_that_cannot_be_encoded_is_among_the_unacknowledged() -> None:
    """As the last one that was read."""
    good, wrong = experiences(1)[0], Experience(visual=[[1.0], [2.0]], confidence=0.5)

    with Service().client() as client, pytest.raises(IncompleteStreamError, match="matrix of 2") as caught:
        client.append_stream([good, wrong])

    assert caught.value.unacknowledged == (good, wrong)


@pytest.mark.parametrize("bounds", [{"chunk_rows": 0}, {"chunk_bytes": 0}])
def test_a_chunk_without_room_is_refused(bounds: dict[str, int]) -> None:
    """Before anything is read."""
    with Service().client() as client, pytest.raises(ValueError, match="no room"):
        client.append_stream([], **bounds)


async def test_the_async_client_streams_from_both_kinds_of_iterables() -> None:
    """The same chunks as the blocking client sends."""
    given = experiences(5)
    blocking, awaited = Service(), Service()

    async def source() -> AsyncIterator[Experience]:
        for item in given:
            yield item

    with blocking.client() as client:
        client.append_stream(given, chunk_rows=2)
    async with awaited.async_client() as other:
        first = await other.append_stream(source(), chunk_rows=2)
        second = await other.append_stream(given, chunk_rows=2)

    assert awaited.requests == blocking.requests * 2
    assert first.ids.tolist() == second.ids.tolist() == [1, 2, 3, 4, 5]


async def test_an_async_stream_that_failed_can_be_gone_on_with() -> None:
    """What is read from stays the caller's, open and where it was."""
    given = experiences(6)
    failures = [problem(503, "overloaded")]
    service = Service(refuse=lambda chunk: failures.pop() if chunk[0]["answer"] == "2" and failures else None)

    async def source() -> AsyncIterator[Experience]:
        for item in given:
            yield item

    rest = source()
    async with service.async_client() as client:
        with pytest.raises(IncompleteStreamError) as caught:
            await client.append_stream(rest, chunk_rows=2)
        assert caught.value.acknowledged.ids.tolist() == [1, 2]
        assert caught.value.unacknowledged == tuple(given[2:5])
        await client.append_stream(caught.value.unacknowledged)
        await client.append_stream(rest)

    assert list(service.ids) == [item.client_id for item in given]
