"""Both clients over a transport in memory: the same calls give the same requests and results."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import httpx
import msgspec
import numpy as np
import pytest

from buffer_client import AsyncBufferClient, BufferClient, ClientError, Experience, OutcomeUnknownError
from buffer_client.errors import UnreachableError

URL = "http://buffer.test"
TOKEN = "a-token"  # noqa: S105 - nobody accepts it

Handler = Callable[[httpx.Request], httpx.Response]


def search_answer(request: httpx.Request) -> httpx.Response:
    """Answer a raw search of one query with id 1."""
    k = int(request.url.params["k"])
    body = np.full(k, 1, "<i8").tobytes() + np.full(k, 0.5, "<f4").tobytes()
    return httpx.Response(200, content=body, headers={"X-Sequence": "9", "X-Generation": "2"})


def buffer_of_one(requests: list[httpx.Request]) -> Handler:
    """Return a service that appends with sequence 9 and finds id 1."""

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if request.url.path == "/v1/search":
            return search_answer(request)
        return httpx.Response(201, json={"ids": [1], "sequence": 9})

    return handle


def test_searches_ask_for_all_that_was_acknowledged() -> None:
    """Read-your-writes holds on any replica; the caller may ask for more or for nothing."""
    requests: list[httpx.Request] = []
    with BufferClient(URL, transport=httpx.MockTransport(buffer_of_one(requests))) as client:
        client.search([1.0], k=1)
        client.append(Experience(visual=[1.0], confidence=1.0))
        client.search([1.0], k=1)
        client.search([1.0], k=1, min_sequence=0)

    asked = [request.url.params.get("min_sequence") for request in requests if request.url.path == "/v1/search"]
    assert asked == [None, "9", None]
    assert client.sequence == 9


async def test_the_async_client_sends_what_the_blocking_one_sends() -> None:
    """One core makes the requests and reads the answers."""
    blocking: list[httpx.Request] = []
    awaited: list[httpx.Request] = []
    given = Experience(visual=[1.0], confidence=1.0)

    with BufferClient(URL, token=TOKEN, transport=httpx.MockTransport(buffer_of_one(blocking))) as client:
        client.append(given)
        first = client.search([1.0], k=2)
    async with AsyncBufferClient(URL, token=TOKEN, transport=httpx.MockTransport(buffer_of_one(awaited))) as other:
        await other.append([given])
        second = await other.search([1.0], k=2)

    assert [(r.method, r.url, r.headers, r.content) for r in blocking] == [
        (r.method, r.url, r.headers, r.content) for r in awaited
    ]
    np.testing.assert_array_equal(first.ids, second.ids)
    assert blocking[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    """What is learnt for one is known for the other."""

    def surface(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name.removeprefix("a") if name == "aclose" else name: list(inspect.signature(method).parameters)
            for name, method in methods
            if not name.startswith("_")
        }

    assert surface(BufferClient) == surface(AsyncBufferClient)


def test_a_walk_follows_cursors_to_the_last_page() -> None:
    """Every experience once, in order."""
    pages = {"0": ([1, 2], 3), "3": ([3, 4], 5), "5": ([5], None)}

    def handle(request: httpx.Request) -> httpx.Response:
        ids, following = pages[request.url.params["cursor"]]
        return httpx.Response(200, json={"experiences": [{"id": id_} for id_ in ids], "next_cursor": following})

    with BufferClient(URL, transport=httpx.MockTransport(handle)) as client:
        walked = [experience.id for experience in client.experiences(limit=2)]

    assert walked == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(httpx.ConnectError("refused"), UnreachableError), (httpx.ReadTimeout("late"), OutcomeUnknownError)],
)
def test_a_broken_connection_is_an_error_of_the_tree(failure: Exception, expected: type[ClientError]) -> None:
    """No error of the HTTP library reaches the caller."""

    def handle(_: httpx.Request) -> httpx.Response:
        raise failure

    client = BufferClient(URL, retries=0, transport=httpx.MockTransport(handle))
    with client, pytest.raises(expected):
        client.append(Experience(visual=[1.0], confidence=1.0))


def test_the_caller_hears_of_every_retry() -> None:
    """A count of them is the first sign of trouble."""
    answers = [httpx.Response(503, json={"code": "overloaded"}, headers={"Retry-After": "0"}) for _ in range(2)]
    heard: list[ClientError] = []

    def handle(_: httpx.Request) -> httpx.Response:
        return answers.pop() if answers else httpx.Response(200, json={"id": 1})

    with BufferClient(URL, transport=httpx.MockTransport(handle), on_retry=heard.append) as client:
        assert client.get(1).id == 1

    assert [error.code for error in heard] == ["overloaded", "overloaded"]


def test_a_filter_is_sent_under_the_name_of_the_contract() -> None:
    """``filter`` selects by metadata."""
    sent: list[dict[str, object]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(msgspec.msgpack.decode(request.content))
        return httpx.Response(200, json={"results": [[]], "sequence": 0, "generation": 0})

    with BufferClient(URL + "/", transport=httpx.MockTransport(handle)) as client:
        client.search(text=[1.0], filter={"run": "a"})

    assert sent == [{"k": 10, "text": np.array([1.0], "<f4").tobytes(), "filter": {"run": "a"}}]
