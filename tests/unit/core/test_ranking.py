"""Two-phase retrieval: the order agrees with the formula computed by hand, and the work is bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffer_service.core import Experience, ExperienceBuffer, Rank
from buffer_service.core.ranking import Ranked
from buffer_service.errors import InvalidRequestError
from buffer_service.settings import EmbeddingSettings, IndexSettings, RebuildSettings, ServerSettings, Settings
from tests.helpers.vectors import unit_vectors

ROWS = 120
HOUR_S = 3600.0
K_MAX = 60


class Clock:
    """A clock that stands still until it is set."""

    now_s = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def _vectors(metric: str) -> np.ndarray:
    rows = unit_vectors(ROWS, 8)
    return rows if metric == "cosine" else (rows * np.linspace(0.1, 20, ROWS, dtype=np.float32)[:, None])


@pytest.fixture(scope="module", params=["cosine", "euclidean"])
def buffer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExperienceBuffer]:
    """120 experiences, one each hour, of which two in three have outcomes."""
    clock, metric = Clock(), request.param
    chosen = Settings(
        embedding=EmbeddingSettings(dimension=8, metric=metric),
        rebuild=RebuildSettings(mode="off"),
        index=IndexSettings(faiss_backend="cpu"),
        server=ServerSettings(k_max=K_MAX),
    )
    with ExperienceBuffer(tmp_path_factory.mktemp("ranked"), chosen, clock) as opened:
        for number, row in enumerate(_vectors(metric)):
            clock.now_s += HOUR_S
            opened.append([Experience(confidence=0.5, visual=row.tobytes(), metadata={"third": number % 3})])
        told = [(n + 1, bool((n // 3) % 2)) for n in range(ROWS) if n % 3 for _ in range(n % 5 + 1)]
        for start in range(0, len(told), 100):
            opened.report_outcomes(told[start : start + 100])
        yield opened


def _expected(buffer: ExperienceBuffer, query: np.ndarray, k: int, rank: Rank, third: int | None) -> list[tuple]:
    """Return (id, score, similarity, success, freshness) by the formula, in plain Python."""
    metric = buffer.settings.embedding.metric
    rows = _vectors(metric).astype(np.float64)
    wanted = [n for n in range(ROWS) if third is None or n % 3 == third]
    if metric == "cosine":
        near = {n: (1 + float(rows[n] @ query / np.linalg.norm(query))) / 2 for n in wanted}
    else:
        near = {n: 1 / (1 + float(np.linalg.norm(rows[n] - query))) for n in wanted}
    candidates = sorted(wanted, key=lambda n: -near[n])[: rank.candidates or 4 * k]
    scored = []
    for n in candidates:
        stored = buffer.get(n + 1)
        success = (stored.success_count + 1) / (stored.outcome_count + 2)
        half_life_s = rank.freshness_half_life_s
        fresh = 2 ** (-(ROWS - 1 - n) * HOUR_S / half_life_s) if half_life_s else 1.0
        score = near[n] ** rank.similarity_power * success**rank.success_power * fresh
        scored.append((n + 1, score, near[n], success, fresh))
    return sorted(scored, key=lambda row: -row[1])[:k]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_order_and_parts_follow_the_formula(buffer: ExperienceBuffer, data: st.DataObject) -> None:
    """For any powers, half-life, number of candidates and filter, each query of many by itself."""
    k = data.draw(st.integers(1, 15))
    rank = Rank(
        candidates=data.draw(st.none() | st.integers(k, K_MAX)),
        similarity_power=data.draw(st.sampled_from([0.0, 0.5, 1.0, 4.0])),
        success_power=data.draw(st.sampled_from([0.0, 1.0, 2.5])),
        freshness_half_life_s=data.draw(st.none() | st.floats(HOUR_S, 1000 * HOUR_S)),
    )
    third = data.draw(st.none() | st.integers(0, 2))
    queries = unit_vectors(3, 8, seed=data.draw(st.integers(0, 1000)))

    found = buffer.search(queries, k, wanted=None if third is None else {"third": third}, rank=rank)

    assert isinstance(found, Ranked)
    for row, query in enumerate(queries.astype(np.float64)):
        expected = _expected(buffer, query, k, rank, third)
        parts = np.stack([found.scores[row], found.similarity[row], found.success[row], found.freshness[row]], axis=1)
        np.testing.assert_allclose(parts[: len(expected), 0], [score for _, score, *_ in expected], rtol=2e-5)
        by_id = {experience: values for experience, *values in expected}
        for experience, values in zip(found.ids[row].tolist(), parts.tolist(), strict=True):
            if experience in by_id:  # equal scores may be cut off in either order
                np.testing.assert_allclose(values, by_id[experience], rtol=2e-5)
        assert len(set(found.ids[row].tolist()) - set(by_id)) <= _ties(expected)


def _ties(expected: list[tuple]) -> int:
    """Return how many of the answer score as little as its last: those may be others of that score."""
    return sum(math.isclose(score, expected[-1][1], rel_tol=1e-5) for _, score, *_ in expected)


def test_what_helped_comes_before_what_is_a_little_nearer(buffer: ExperienceBuffer) -> None:
    """And without powers and half-life the order is that of a plain search."""
    query = _vectors(buffer.settings.embedding.metric)[:1]

    plain = buffer.search(query, 10)
    same = buffer.search(query, 10, rank=Rank(success_power=0))
    ranked = buffer.search(query, 10, rank=Rank(candidates=K_MAX, similarity_power=0))

    assert same.ids.tolist() == plain.ids.tolist()
    assert isinstance(ranked, Ranked)
    assert np.all(np.diff(ranked.success[0]) <= 0)
    assert ranked.success[0, 0] > 0.7


def test_places_without_an_experience_stand_for_nothing(buffer: ExperienceBuffer) -> None:
    """Fewer that pass the filter than k."""
    found = buffer.search(unit_vectors(2, 8), 6, wanted={"id": {"lte": 4}}, rank=Rank())

    assert isinstance(found, Ranked)
    assert (found.ids > 0).sum(axis=1).tolist() == [4, 4]
    assert np.all(np.isneginf(found.scores[:, 4:]))
    assert np.all(found.similarity[:, 4:] == 0)


def test_only_what_is_returned_counts_as_retrieved(tmp_path: Path) -> None:
    """Not the candidates: they would be counted for what nobody saw."""
    chosen = Settings(
        embedding=EmbeddingSettings(dimension=8),
        rebuild=RebuildSettings(mode="off"),
        index=IndexSettings(faiss_backend="cpu"),
    )
    with ExperienceBuffer.open(tmp_path, chosen) as buffer:
        buffer.append([Experience(confidence=0.5, visual=row.tobytes()) for row in unit_vectors(20, 8)])
        found = buffer.search(unit_vectors(1, 8, seed=1), 2, rank=Rank(candidates=20))
    with ExperienceBuffer.open(tmp_path, chosen) as buffer:
        stored = [item for item in buffer.get_many(range(1, 21)) if item is not None]
    assert {item.id for item in stored if item.retrieval_count} == set(found.ids[0].tolist())


@pytest.mark.parametrize(
    ("rank", "named"),
    [
        (Rank(candidates=9), "candidates is 9"),
        (Rank(candidates=K_MAX + 1), "candidates is 61"),
        (Rank(similarity_power=-1), "similarity_power"),
        (Rank(success_power=math.nan), "success_power"),
        (Rank(success_power=101), "success_power"),
        (Rank(freshness_half_life_s=0), "half_life_s"),
        (Rank(freshness_half_life_s=math.inf), "half_life_s"),
    ],
)
def test_ranks_out_of_range_are_refused(buffer: ExperienceBuffer, rank: Rank, named: str) -> None:
    """The message names the field; so no request can ask for unbounded work."""
    with pytest.raises(InvalidRequestError, match=named):
        buffer.search(unit_vectors(1, 8), 10, rank=rank)
