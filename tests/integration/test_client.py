"""The client against a real service: every method, every promise, both kinds of client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from buffer_client import AsyncBufferClient, BufferClient, Experience, SampleBatch, UpdateStatus
from buffer_client.errors import (
    ConflictError,
    EvictedExperienceError,
    InvalidRequestError,
    SequenceTimeoutError,
    UnknownExperienceError,
)
from tests.helpers.vectors import unit_vectors
from tests.integration.running import RunningService, running_service

DIMENSION = 8


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that all tests of this module share; each uses vectors of its own."""
    with running_service(tmp_path_factory.mktemp("client") / "data") as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[BufferClient]:
    """A client of the shared service."""
    with BufferClient(service.url) as connected:
        yield connected


def experience(vector: npt.ArrayLike, **given: object) -> Experience:
    """Return an experience with a middling confidence."""
    return Experience(**({"visual": vector, "confidence": 0.5} | given))  # type: ignore[arg-type]


def test_what_was_appended_is_read_back(client: BufferClient) -> None:
    """All fields, with counters and the vector it is found by."""
    vector = unit_vectors(1, DIMENSION, seed=1)[0]
    given = experience(
        vector,
        question="what?",
        answer="that",
        image_uri="s3://bucket/1.png",
        trajectory=[{"action": "zoom"}],
        rewards=[0.25, 0.5],
        metadata={"label": 3},
    )

    appended = client.append(given)
    stored = client.get(int(appended.ids[0]))

    assert stored.client_id == given.client_id
    assert (stored.question, stored.answer, stored.image_uri) == ("what?", "that", "s3://bucket/1.png")
    assert (stored.trajectory, stored.rewards, stored.metadata) == ([{"action": "zoom"}], [0.25, 0.5], {"label": 3})
    np.testing.assert_allclose(np.array(stored.vector), vector, atol=1e-6)
    assert stored.priority == pytest.approx(0.4 * 0.5 + 0.4 * 0.75)


def test_an_append_is_found_at_once_in_either_form(client: BufferClient) -> None:
    """Read-your-writes, and raw float32 says the same as the form with experiences."""
    vectors = unit_vectors(5, DIMENSION, seed=2)

    for vector in vectors:
        appended = client.append(experience(vector))
        raw = client.search(vector, k=3)
        full = client.search(vector, k=3, include=("experience",))
        assert raw.ids[0, 0] == full.ids[0, 0] == appended.ids[0]
        np.testing.assert_array_equal(raw.ids, full.ids)
        np.testing.assert_allclose(raw.scores, full.scores, rtol=1e-6)
        assert full.experiences is not None
        assert full.experiences[0][0].id == appended.ids[0]
        assert raw.sequence >= appended.sequence


def test_many_queries_are_answered_in_their_order(client: BufferClient) -> None:
    """Row i of the result is that of query i."""
    vectors = unit_vectors(20, DIMENSION, seed=3)
    ids = client.append([experience(vector) for vector in vectors]).ids

    result = client.search(vectors, k=1)

    np.testing.assert_array_equal(result.ids[:, 0], ids)
    np.testing.assert_allclose(result.scores[:, 0], 1.0, atol=1e-5)


def test_missing_neighbours_are_padded(client: BufferClient) -> None:
    """A filter that one experience passes leaves nine places empty; a list offers alternatives."""
    vector = unit_vectors(1, DIMENSION, seed=4)[0]
    (mine,) = client.append(experience(vector, metadata={"only": "this"})).ids

    found = client.search(vector, k=10, filter={"only": "this"})
    alternatives = client.search(visual=vector, k=10, filter={"only": ["that", "this"]})

    assert found.ids[0].tolist() == [mine] + [-1] * 9
    assert np.isnan(found.scores[0, 1:]).all()
    np.testing.assert_array_equal(found.ids, alternatives.ids)


def test_both_modalities_are_fused_as_in_the_buffer(client: BufferClient) -> None:
    """A query of the same image and text has score 1."""
    visual, text = unit_vectors(2, DIMENSION, seed=5)
    (mine,) = client.append(experience(visual, text=text)).ids

    found = client.search(visual=visual, text=text, k=1)

    assert found.ids.tolist() == [[mine]]
    assert found.scores[0, 0] == pytest.approx(1.0, abs=1e-5)


def test_the_same_experience_twice_is_one(client: BufferClient) -> None:
    """The object carries its client_id; another content under it is refused."""
    given = experience(unit_vectors(1, DIMENSION, seed=6)[0])

    first, second = client.append(given), client.append(given)

    assert first.ids.tolist() == second.ids.tolist()
    with pytest.raises(ConflictError):
        client.append(experience(unit_vectors(1, DIMENSION, seed=6)[0], client_id=given.client_id, answer="other"))


def test_a_removed_experience_is_gone_and_stays_gone(client: BufferClient) -> None:
    """410 for what existed, 404 for what never did."""
    vector = unit_vectors(1, DIMENSION, seed=7)[0]
    mine = int(client.append(experience(vector)).ids[0])

    client.remove(mine)

    assert mine not in client.search(vector, k=5).ids
    for attempt in (client.get, client.remove):
        with pytest.raises(EvictedExperienceError):
            attempt(mine)
        with pytest.raises(UnknownExperienceError):
            attempt(10**9)


def test_a_walk_meets_every_experience_once_in_order(client: BufferClient) -> None:
    """Whatever the page size, from any id on."""
    ids = client.append([experience(vector) for vector in unit_vectors(7, DIMENSION, seed=8)]).ids.tolist()

    walked = [item.id for item in client.experiences(ids[0], limit=3)]

    assert walked == ids


def test_a_draw_can_be_answered_with_new_priorities(client: BufferClient) -> None:
    """Probabilities and weights belong together; a second update with the sequences of the first draw is stale."""
    client.append([experience(vector) for vector in unit_vectors(30, DIMENSION, seed=9)])

    batch = client.sample(16, beta=1.0, unique=True, include=("experience",))
    first = client.update_priorities(batch.ids, np.full(16, 2.5), batch.sequences)
    second = client.update_priorities(batch.ids, np.full(16, 9.0), batch.sequences)

    assert len(set(batch.ids.tolist())) == len(batch) == 16
    product = batch.weights * batch.probabilities
    np.testing.assert_allclose(product, product[0])
    assert batch.weights.max() == pytest.approx(1.0)
    assert batch.table_size == client.status().size
    assert batch.experiences is not None
    assert [item.id for item in batch.experiences] == batch.ids.tolist()
    assert first == [UpdateStatus.APPLIED] * 16
    assert second == [UpdateStatus.STALE] * 16
    assert client.get(int(batch.ids[0])).priority == 2.5


def test_draws_by_mode_filter_and_normaliser(service: RunningService, client: BufferClient) -> None:
    """Both clients; what passes the filter is all there is to draw from, uniformly if so asked."""
    ids = client.append(
        [experience(row, metadata={"part": n % 2}) for n, row in enumerate(unit_vectors(20, DIMENSION, seed=30))]
    ).ids
    wanted = {"id": {"gte": int(ids[0])}, "part": 1}

    async def draw() -> SampleBatch:
        async with AsyncBufferClient(service.url) as other:
            return await other.sample(10, mode="uniform", filter=wanted, unique=True)

    batch = client.sample(200, mode="uniform", filter=wanted, weight_norm="floor", beta=1.0)
    assert set(batch.ids.tolist()) == set(ids[1::2].tolist())
    assert (batch.table_size, batch.weight_norm) == (10, "floor")
    np.testing.assert_allclose(batch.probabilities, 0.1)
    np.testing.assert_allclose(batch.weights, 1.0)
    assert sorted(asyncio.run(draw()).ids.tolist()) == ids[1::2].tolist()
    with pytest.raises(InvalidRequestError):
        client.sample(1, mode="by heart")  # type: ignore[arg-type]


def test_an_outcome_counts_once_per_request_id(client: BufferClient) -> None:
    """However often it is reported; for what has gone the answer says so."""
    kept, gone = client.append([experience(vector) for vector in unit_vectors(2, DIMENSION, seed=10)]).ids
    client.remove(int(gone))

    answers = [client.report_outcomes([kept, gone], [True, False], request_id="r1") for _ in range(3)]

    assert answers == [[UpdateStatus.APPLIED, UpdateStatus.EVICTED]] * 3
    stored = client.get(int(kept))
    assert (stored.outcome_count, stored.success_count) == (1, 1)
    with pytest.raises(ConflictError):
        client.report_outcomes([kept], [False], request_id="r1")


@pytest.mark.parametrize(
    "vector",
    [[np.nan] * 8, [np.inf] * 8, [3.5e38] * 8, [0.0] * 8, [1.0] * 7],
    ids=["nan", "inf", "big", "zero", "short"],
)
def test_a_vector_without_meaning_is_refused_and_changes_nothing(client: BufferClient, vector: list[float]) -> None:
    """In appends and in searches, raw or not."""
    before = client.status()

    for attempt in (
        lambda: client.append([experience([1.0] * 8), experience(vector)]),
        lambda: client.search(vector),
        lambda: client.search(vector, include=("experience",)),
    ):
        with pytest.raises(InvalidRequestError):
            attempt()

    assert client.status().size == before.size


def test_a_sequence_of_the_future_is_waited_for_and_then_refused(service: RunningService) -> None:
    """The reader is told, instead of being shown an older state."""
    with BufferClient(service.url, retries=0) as client, pytest.raises(SequenceTimeoutError):
        client.search([1.0] * 8, min_sequence=client.status().sequence + 10**6)


async def test_the_async_client_keeps_the_same_promises(service: RunningService) -> None:
    """Fifty at once: every id its own, everything found."""
    vectors = unit_vectors(50, DIMENSION, seed=11)

    async with AsyncBufferClient(service.url) as client:
        appended = await asyncio.gather(*(client.append(experience(vector)) for vector in vectors))
        ids = [int(result.ids[0]) for result in appended]
        found = await asyncio.gather(*(client.search(vector, k=1) for vector in vectors))
        first = min(ids)
        walked = [item.id async for item in client.experiences(first, limit=20)]

    assert len(set(ids)) == 50
    assert [int(result.ids[0, 0]) for result in found] == ids
    assert walked == sorted(ids)
