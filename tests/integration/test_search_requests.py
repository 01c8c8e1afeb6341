"""Searches over HTTP: effort by request, filters, batching, callers that go away, too many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from buffer_client import BufferClient, Experience
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

ROWS = unit_vectors(3000, 8)
OCTETS = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with 3,000 rows in an index of inverted lists."""
    folder = tmp_path_factory.mktemp("searches")
    settings = {"index__type": "ivf", "rebuild__every_operations": 3000, "index__effort_max": 64}
    with running_service(folder / "data", **settings) as service, BufferClient(service.url) as client:
        for start in range(0, len(ROWS), 1000):
            client.append(
                [
                    Experience(visual=ROWS[n], confidence=0.5, reward=n / 3000, metadata={"tag": "abc"[n % 3]})
                    for n in range(start, start + 1000)
                ]
            )
        wait_until(lambda: client.status().generation == 1, "the first generation")
        with httpx.Client(base_url=service.url) as plain:
            yield plain


def _ids(answer: httpx.Response, k: int) -> list[list[int]]:
    assert answer.status_code == 200, answer.text
    count = len(answer.content) // (12 * k)
    found: list[list[int]] = np.frombuffer(answer.content, "<i8", count * k).reshape(count, k).tolist()
    return found


def test_the_status_says_which_index_and_why(http: httpx.Client) -> None:
    """Type, reason, what was tuned, how good it was when it was built, and when that was."""
    status = http.get("/v1/status").json()

    assert status["index_type"] == "ivf"
    assert status["index_reason"].startswith("asked for by index.type; rows are coded as sq8, ")
    assert {"nprobe", "lists", "refine"} <= set(status["index_parameters"])
    assert status["index_recall"] >= 0.95
    assert status["index_built_at"] > status["started_at"]


def test_effort_can_be_given_by_request_up_to_a_limit(http: httpx.Client) -> None:
    """All lists are exact; beyond the limit it is refused; what does not fit the index is passed over."""
    query = unit_vectors(1, 8, seed=3)
    exact = (np.argsort(-(ROWS @ query[0]))[:10] + 1).tolist()

    raw = http.post("/v1/search?k=10&probes=64", content=query.tobytes(), headers=OCTETS)
    body = {"vector": query[0].tolist(), "k": 10, "probes": 64, "ef": 50}
    hits = http.post("/v1/search", json=body).json()["results"][0]

    assert sum(found in exact for found in _ids(raw, 10)[0]) >= 9
    assert [hit["id"] for hit in hits] == _ids(raw, 10)[0]
    for given in ({"probes": 65}, {"probes": 0}, {"ef": 65}):
        refused = http.post("/v1/search", json={"vector": query[0].tolist(), **given})
        assert (refused.status_code, "give 1 to 64" in refused.json()["detail"]) == (422, True)


def test_filters_compare_fields_and_metadata(http: httpx.Client) -> None:
    """The right number of results, all of which pass."""
    wanted = {"reward": {"gte": 0.5, "lt": 0.51}, "tag": {"in": ["a", "b"]}}
    answer = http.post(
        "/v1/search", json={"vector": ROWS[0].tolist(), "k": 30, "filter": wanted, "include": ["experience"]}
    )

    hits = answer.json()["results"][0]
    assert len(hits) == 20
    assert all(0.5 <= hit["experience"]["reward"] < 0.51 for hit in hits)
    assert {hit["experience"]["metadata"]["tag"] for hit in hits} == {"a", "b"}


def test_concurrent_searches_get_their_own_answers(http: httpx.Client) -> None:
    """They are batched, and each caller gets the neighbours of its own queries; a bad one harms none."""

    def ask(n: int) -> None:
        rows = ROWS[n : n + 1 + n % 3]
        if n % 10 == 9:
            refused = http.post("/v1/search?k=1", content=np.full((1, 8), np.nan, "<f4").tobytes(), headers=OCTETS)
            assert refused.status_code == 422
            return
        found = _ids(http.post("/v1/search?k=1", content=rows.tobytes(), headers=OCTETS), 1)
        assert found == [[n + 1 + place] for place in range(len(rows))]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(400)))


def test_many_queries_in_one_body(http: httpx.Client) -> None:
    """More than one batch of the dispatcher."""
    found = _ids(http.post("/v1/search?k=2", content=ROWS[:500].tobytes(), headers=OCTETS), 2)

    assert [first for first, _ in found] == list(range(1, 501))


def test_too_many_searches_at_once_are_told_when_to_come_back(tmp_path: Path) -> None:
    """503 with Retry-After, while the others are answered."""
    settings = {"server__pending_searches_max": 1, "rebuild__mode": "off"}
    with running_service(tmp_path / "data", **settings) as service, BufferClient(service.url) as client:
        client.append([Experience(visual=row, confidence=0.5) for row in ROWS])
        body = ROWS[:64].tobytes()

        async def flood() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=service.url, limits=httpx.Limits(max_connections=64)) as plain:
                asked = (plain.post("/v1/search?k=100", content=body, headers=OCTETS) for _ in range(64))
                return await asyncio.gather(*asked)

        answers = asyncio.run(flood())

    assert {answer.status_code for answer in answers} == {200, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    assert {answer.json()["code"] for answer in refused} == {"overloaded"}


def test_the_metrics_say_how_large_batches_are(http: httpx.Client) -> None:
    """Batches and the queries in them are counted apart; two queries of one request are of one batch."""

    def counted() -> tuple[float, float]:
        lines = http.get("/metrics").text.splitlines()
        values = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if "#" not in line)}
        return values["xbuf_search_batches_total"], values["xbuf_search_batched_queries_total"]

    batches, queries = counted()
    http.post("/v1/search?k=3", content=unit_vectors(2, 8, seed=5).tobytes(), headers=OCTETS).raise_for_status()

    assert counted() == (batches + 1, queries + 2)
