"""Batches drawn ahead: in order, bounded, and ended when nobody wants them any more."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import httpx
import msgspec
import pytest
from msgspec.structs import replace

from buffer_client import BufferClient, LinearBeta, SampleStream
from buffer_client.errors import OverloadedError, StoreUnusableError
from buffer_service.contract.status import Backend, ServiceStatus, StoreHealth
from tests.helpers.waiting import wait_until
from tests.unit.client.serving import URL, problem

STATUS = ServiceStatus(
    version="1",
    started_at=0.0,
    dimension=2,
    metric="cosine",
    sequence=1,
    size=0,
    capacity=100,
    generation=0,
    pointer_revision=0,
    watermark=0,
    index_type="none",
    index_rows=0,
    delta_rows=0,
    tombstones=0,
    pending_operations=0,
    backend=Backend(requested="cpu", active="cpu", reason=""),
    store=StoreHealth(backend="file", writable=True, reason="", size_bytes=0),
    rss_bytes=0,
    rebuild_running=False,
    rebuild_error="",
    switch=None,
    refused=None,
)


@dataclass
class Sampled:
    """A buffer of some size whose draws are numbered: the n-th has n as its only id."""

    size: int = 100
    draws: list[dict[str, Any]] = field(default_factory=list)
    failures: list[httpx.Response] = field(default_factory=list)
    looks: int = 0
    empty_draws: int = 0
    """How many of the next draws find nothing."""

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer a draw or a status."""
        if request.url.path == "/v1/status":
            self.looks += 1
            return httpx.Response(200, content=msgspec.json.encode(replace(STATUS, size=self.size)))
        if self.failures:
            return self.failures.pop()
        self.draws.append(msgspec.msgpack.decode(request.content))
        if self.empty_draws:
            self.empty_draws -= 1
            return httpx.Response(200, json={"items": [], "table_size": 0})
        item = {
            "id": len(self.draws),
            "probability": 0.5,
            "weight": 1.0,
            "sequence": 3,
            "experience": {"id": len(self.draws)},
        }
        return httpx.Response(200, json={"items": [item], "table_size": self.size})

    def client(self) -> BufferClient:
        """Return a client that talks to it."""
        return BufferClient(URL, retries=0, transport=httpx.MockTransport(self.handle))


def first_ids(batches: Iterable[Any]) -> list[int]:
    """Return the first id of each batch."""
    return [int(batch.ids[0]) for batch in batches]


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_batches_come_in_the_order_of_their_draws(prefetch: int) -> None:
    """As many as were asked for, and then the end, again and again."""
    service = Sampled()

    with service.client() as client, SampleStream(client, 8, batches=range(5), prefetch=prefetch) as stream:
        assert first_ids(stream) == [1, 2, 3, 4, 5]
        assert next(stream, None) is None

    assert len(service.draws) == 5
    assert {draw["size"] for draw in service.draws} == {8}


def test_no_more_is_drawn_than_may_wait() -> None:
    """A slow consumer gets priorities that are not older than that."""
    service = Sampled()

    with service.client() as client, SampleStream(client, 8, prefetch=3) as stream:
        wait_until(lambda: len(service.draws) == 3, "the stream is full")
        assert next(stream).ids.tolist() == [1]
        wait_until(lambda: len(service.draws) == 4, "the next is drawn")
        assert len(stream._drawn) <= 3

    assert len(service.draws) == 4


def test_without_prefetch_a_batch_is_drawn_when_it_is_asked_for() -> None:
    """Its priorities are those of the moment, and no thread is needed."""
    service = Sampled()
    threads = threading.active_count()

    with service.client() as client, SampleStream(client, 8, prefetch=0) as stream:
        assert (threading.active_count(), len(service.draws)) == (threads, 0)
        assert first_ids(islice(stream, 2)) == [1, 2]

    assert len(service.draws) == 2


def test_the_options_of_the_draw_reach_the_service() -> None:
    """A fixed exponent is sent with each draw."""
    service = Sampled()
    options: dict[str, Any] = {"beta": 0.7, "unique": True, "include": ("experience",)}

    with service.client() as client, SampleStream(client, 4, batches=range(1), prefetch=0, **options) as stream:
        (batch,) = stream

    assert batch.experiences is not None
    assert batch.experiences[0].id == 1
    assert service.draws[0] == {"size": 4, "unique": True, "beta": 0.7, "include": ["experience"]}


def test_mode_filter_and_normaliser_reach_the_service_with_every_draw() -> None:
    """As they were given."""
    service = Sampled()
    options: dict[str, Any] = {"mode": "recent", "filter": {"run": "a"}, "weight_norm": "floor"}

    with service.client() as client, SampleStream(client, 4, batches=range(2), prefetch=0, **options) as stream:
        list(stream)

    assert service.draws == [{"size": 4, "unique": False, **options}] * 2


@pytest.mark.parametrize(("status", "code"), [(503, "too-few-experiences"), (429, "rate-limited")])
def test_a_stream_waits_where_the_service_asks_for_more_experiences(status: int, code: str) -> None:
    """However often, beyond the client's own retries; the batch has the number that it would have had."""
    service = Sampled(failures=[problem(status, code) for _ in range(5)])

    with service.client() as client, SampleStream(client, 4, batches=range(2), beta=LinearBeta(0, 1, 2)) as stream:
        assert first_ids(stream) == [1, 2]

    assert [draw["beta"] for draw in service.draws] == [0.0, 1.0]


def test_beta_follows_its_schedule_by_the_number_of_the_batch() -> None:
    """Workers that share the batches of one run follow one schedule."""
    service = Sampled()

    with service.client() as client:
        for worker in (0, 1):
            numbers = range(worker, 6, 2)
            with SampleStream(client, 1, batches=numbers, beta=LinearBeta(0.5, 1.0, 6)) as stream:
                list(stream)

    assert [draw["beta"] for draw in service.draws] == pytest.approx([0.5, 0.7, 0.9, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(("number", "expected"), [(0, 0.4), (50, 0.7), (100, 1.0), (1000, 1.0)])
def test_linear_beta_ends_at_its_end(number: int, expected: float) -> None:
    """And stays there."""
    assert LinearBeta(0.4, 1.0, 101)(number) == pytest.approx(expected)


@pytest.mark.parametrize("batches", [0, 1])
def test_a_run_of_one_batch_has_a_beta_too(batches: int) -> None:
    """There is no division by zero at its ends."""
    assert LinearBeta(0.4, 1.0, batches)(0) == pytest.approx(0.4)


@pytest.mark.parametrize(("options", "wanted"), [({}, 1), ({"min_size": 5}, 5), ({"unique": True}, 8)])
def test_a_stream_waits_until_there_is_enough_to_draw_from(options: dict[str, Any], wanted: int) -> None:
    """Training may be started before the first experience."""
    service = Sampled(size=wanted - 1)

    with service.client() as client, SampleStream(client, 8, **options) as stream:
        wait_until(lambda: service.looks >= 2, "the stream looks again")
        assert service.draws == []
        service.size = wanted
        assert next(stream).table_size == wanted


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_draw_that_found_nothing_is_drawn_again_under_its_number(prefetch: int) -> None:
    """All can have left since the last one; a training step of no rows has no mean."""
    service = Sampled(empty_draws=2)

    with (
        service.client() as client,
        SampleStream(client, 8, batches=range(2), prefetch=prefetch, beta=LinearBeta(0.0, 1.0, 2)) as stream,
    ):
        assert [len(batch) for batch in stream] == [1, 1]

    assert [draw["beta"] for draw in service.draws] == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_is_raised_in_its_place_and_ends_the_stream(prefetch: int) -> None:
    """After the batches that were drawn before it."""
    service = Sampled()

    with service.client() as client, SampleStream(client, 8, prefetch=prefetch) as stream:
        drawn = first_ids(islice(stream, 1))
        wait_until(lambda: len(service.draws) >= 1 + prefetch, "the stream is full")
        service.failures.append(problem(503, "overloaded"))
        with pytest.raises(OverloadedError):
            drawn.extend(int(batch.ids[0]) for batch in stream)
        assert next(stream, None) is None

    assert drawn == list(range(1, len(drawn) + 1))


def test_a_service_that_cannot_be_asked_is_told_at_the_first_batch() -> None:
    """Not in a thread that nobody sees."""

    def broken(_: httpx.Request) -> httpx.Response:
        return problem(503, "corrupt-store")

    with (
        BufferClient(URL, retries=0, transport=httpx.MockTransport(broken)) as client,
        SampleStream(client, 8) as stream,
        pytest.raises(StoreUnusableError),
    ):
        next(stream)


@pytest.mark.parametrize("size", [0, 100])
def test_closing_ends_the_thread_whatever_it_waits_for(size: int) -> None:
    """For experiences, or for room."""
    service = Sampled(size=size)
    threads = threading.active_count()

    with service.client() as client:
        stream = SampleStream(client, 8)
        wait_until(lambda: service.looks and (not size or len(service.draws) == 2), "the stream waits")
        stream.close()

    assert threading.active_count() == threads
    assert next(stream, None) is None


def test_a_negative_prefetch_is_refused() -> None:
    """It has no meaning."""
    with Sampled().client() as client, pytest.raises(ValueError, match="prefetch"):
        SampleStream(client, 8, prefetch=-1)
