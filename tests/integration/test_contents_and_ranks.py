"""What answers carry beside ids, and ranked searches, over HTTP in both encodings and through both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from buffer_client import AsyncBufferClient, BufferClient, Experience, Rank, SearchResult, votes
from buffer_client.errors import InvalidRequestError
from tests.helpers.vectors import unit_vectors
from tests.integration.running import RunningService, running_service

DIMENSION = 8
ROWS = unit_vectors(60, DIMENSION)
MESSAGE_PACK = {"content-type": "application/msgpack", "accept": "application/msgpack"}
BODY_BYTES_MAX = 4096


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Sixty experiences, of which those of every third id have helped twice, the others misled once."""
    folder = tmp_path_factory.mktemp("ranked") / "data"
    with (
        running_service(folder, rebuild__mode="off", server__body_bytes_max=BODY_BYTES_MAX) as running,
        BufferClient(running.url) as client,
    ):
        for start in range(0, len(ROWS), 10):
            client.append(
                [
                    Experience(visual=ROWS[n], confidence=0.5, answer="ab"[n % 2], metadata={"n": n})
                    for n in range(start, start + 10)
                ]
            )
        for start in range(1, len(ROWS) + 1, 20):
            ids = range(start, start + 20)
            client.report_outcomes(
                [*ids, *(n for n in ids if n % 3 == 0)],
                [n % 3 == 0 for n in ids] + [True] * len([n for n in ids if n % 3 == 0]),
            )
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[BufferClient]:
    """A client of the shared service."""
    with BufferClient(service.url) as connected:
        yield connected


def _post(service: RunningService, path: str, body: dict[str, Any], *, packed: bool) -> Any:  # noqa: ANN401 - decoded
    if packed:
        answer = httpx.post(service.url + path, content=msgspec.msgpack.encode(body), headers=MESSAGE_PACK)
        assert answer.status_code == 200, answer.text
        return msgspec.msgpack.decode(answer.content)
    answer = httpx.post(service.url + path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _vector(given: Any, *, packed: bool) -> list[float]:  # noqa: ANN401 - as decoded
    assert isinstance(given, bytes if packed else list)
    return np.frombuffer(given, "<f4").tolist() if packed else given


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_vectors_come_with_searches_draws_and_pages(service: RunningService, encoding: str) -> None:
    """Lists in JSON, float32 in MessagePack; experiences beside them where both are asked for."""
    packed = encoding == "msgpack"
    body = {"vector": ROWS[4].tolist(), "k": 3, "include": ["experience", "vector"]}
    hits = _post(service, "/v1/search", body, packed=packed)["results"][0]
    items = _post(service, "/v1/sample", {"size": 5, "include": ["vector"]}, packed=packed)["items"]
    page = httpx.get(
        service.url + "/v1/experiences?cursor=5&limit=2&include=vector", headers=MESSAGE_PACK if packed else {}
    )
    listed = (msgspec.msgpack if packed else msgspec.json).decode(page.content)["experiences"]
    one = httpx.get(service.url + "/v1/experiences/7", headers=MESSAGE_PACK if packed else {})

    assert hits[0]["experience"]["metadata"] == {"n": 4}
    assert all("experience" not in item for item in items)
    found = [*hits, *items, *listed, (msgspec.msgpack if packed else msgspec.json).decode(one.content)]
    for item in found:
        np.testing.assert_allclose(_vector(item["vector"], packed=packed), ROWS[item["id"] - 1], atol=1e-6)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_a_ranked_search_returns_all_parts_of_the_score(service: RunningService, encoding: str) -> None:
    """It takes many queries, filter, min_sequence and include along; the product of the parts is the score."""
    body = {
        "vectors": ROWS[:2].tolist(),
        "k": 4,
        "rank": {"candidates": 30, "similarity_power": 2.0, "freshness_half_life_s": 1e9},
        "filter": {"n": {"gte": 10}},
        "min_sequence": 1,
        "include": ["experience", "vector"],
    }
    answer = _post(service, "/v1/search", body, packed=encoding == "msgpack")

    assert [len(hits) for hits in answer["results"]] == [4, 4]
    for query, hits in zip(ROWS, answer["results"], strict=False):
        scores = [hit["score"] for hit in hits]
        assert scores == sorted(scores, reverse=True)
        for hit in hits:
            parts = hit["parts"]
            expected = parts["similarity"] ** 2 * parts["success"] * parts["freshness"]
            assert hit["score"] == pytest.approx(expected, rel=1e-5)
            assert parts["similarity"] == pytest.approx((1 + float(query @ ROWS[hit["id"] - 1])) / 2, abs=1e-5)
            assert parts["success"] == pytest.approx(3 / 4 if hit["id"] % 3 == 0 else 1 / 3)
            assert hit["experience"]["metadata"]["n"] >= 10


def test_both_clients_return_ranks_and_vectors_as_arrays(service: RunningService, client: BufferClient) -> None:
    """Padded like ids; the same from the blocking and the async client."""
    rank = Rank(candidates=40, success_power=3)

    async def ask() -> SearchResult:
        async with AsyncBufferClient(service.url) as other:
            return await other.search(ROWS[:3], k=5, filter={"n": {"lt": 4}}, rank=rank, include=("vector",))

    found = client.search(ROWS[:3], k=5, filter={"n": {"lt": 4}}, rank=rank, include=("vector",))
    same = asyncio.run(ask())

    assert found.ids.tolist() == same.ids.tolist()
    assert found.ids[:, 0].tolist() == [3, 3, 3]
    assert found.vectors is not None
    assert found.parts is not None
    assert found.vectors.shape == (3, 5, DIMENSION)
    assert np.isnan(found.vectors[:, 4]).all()
    np.testing.assert_allclose(found.vectors[:, :4], ROWS[found.ids[:, :4] - 1], atol=1e-6)
    product = found.parts.similarity * found.parts.success**3 * found.parts.freshness
    np.testing.assert_allclose(product, found.scores, rtol=1e-5)
    assert np.isnan(found.parts.success[:, 4]).all()


def test_clients_return_the_vectors_of_draws_and_pages(client: BufferClient) -> None:
    """One row for each id; experiences of a page carry their own."""
    batch = client.sample(16, include=("experience", "vector"))
    walked = list(client.experiences(limit=25, include=("vector",)))

    assert batch.vectors is not None
    assert batch.experiences is not None
    np.testing.assert_allclose(batch.vectors, ROWS[batch.ids - 1], atol=1e-6)
    np.testing.assert_allclose(np.array([item.vector for item in walked]), ROWS, atol=1e-6)
    assert client.page(limit=1).experiences[0].vector is None


def test_what_misled_has_less_of_a_vote_in_a_ranked_search(client: BufferClient) -> None:
    """Its weight by distance is multiplied by its success."""
    plain = client.search(ROWS[10:11], k=8, include=("experience",))
    ranked = client.search(ROWS[10:11], k=8, rank=Rank(candidates=8), include=("experience",))
    (before,) = votes(plain, lambda item: item.id)
    (after,) = votes(ranked, lambda item: item.id)

    assert before is not None
    assert after is not None
    success = {n: 3 / 4 if n % 3 == 0 else 1 / 3 for n in before.shares}
    total = sum(share * success[n] for n, share in before.shares.items())
    expected = {n: share * success[n] / total for n, share in before.shares.items()}
    assert after.shares == pytest.approx(expected, rel=1e-3)


def test_work_that_is_too_large_is_refused(client: BufferClient) -> None:
    """More bytes of vectors than a body may have, more candidates than a search may give."""
    many = BODY_BYTES_MAX // (4 * DIMENSION) + 1
    for attempt in (
        lambda: client.sample(many, include=("vector",)),
        lambda: client.search(ROWS[:2], k=many // 2 + 1, include=("vector",)),
        lambda: client.page(limit=many, include=("vector",)),
    ):
        with pytest.raises(InvalidRequestError, match=f"at most {many - 1}"):
            attempt()
    with pytest.raises(InvalidRequestError, match=r"rank\.candidates"):
        client.search(ROWS[0], k=5, rank=Rank(candidates=1001))
