"""The vote of neighbours: kernel weights, winner, confidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from buffer_client import RankParts, SearchResult, StoredExperience, inverse_distance, similarity, softmax, vote, votes
from buffer_client.vote import Kernel, kernel_weights, squared_distances


def test_weight_falls_with_the_squared_distance_as_in_episodic_control() -> None:
    """Weight is 1 / (d² + delta), made to sum to 1."""
    scores = np.array([1.0, 0.5])

    weights = kernel_weights(scores, kernel=inverse_distance(0.1))

    expected = np.array([1 / 0.1, 1 / 1.1])
    np.testing.assert_allclose(weights, expected / expected.sum())


def test_scores_of_either_metric_mean_the_same_distance() -> None:
    """Cosine scores of unit vectors, and negative distances."""
    first, second = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    distance = float(np.linalg.norm(first - second))

    cosine = squared_distances(np.array([first @ second]), "cosine")
    euclidean = squared_distances(np.array([-distance]), "euclidean")

    np.testing.assert_allclose(cosine, euclidean)


def test_one_near_neighbour_outvotes_several_far_ones() -> None:
    """That is what the kernel is for."""
    result = vote(["near", "far", "far", "far"], [0.999, 0.7, 0.7, 0.7])

    assert result.winner == "near"
    assert result.confidence > 0.9
    assert list(result.shares) == ["near", "far"]


def test_the_confidence_is_the_share_of_the_winner() -> None:
    """Equal scores count heads."""
    result = vote([3, 3, 8], [0.5, 0.5, 0.5])

    assert result.winner == 3
    assert result.confidence == pytest.approx(2 / 3)
    assert result.weights.sum() == pytest.approx(1.0)


def test_of_equal_shares_the_nearest_wins() -> None:
    """Neighbours come best first."""
    assert vote(["b", "a"], [0.5, 0.5]).winner == "b"


def test_padding_has_no_vote() -> None:
    """Search results are padded with NaN."""
    result = vote(["a", "padding"], [0.5, np.nan])

    assert result.winner == "a"
    assert result.confidence == 1.0


def test_rounding_above_one_is_no_negative_distance() -> None:
    """A cosine of 1.0000001 is an exact match."""
    assert vote(["a", "b"], [1.0000001, 1.0]).confidence == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("labels", "scores", "given"),
    [
        ([], [], {}),
        (["a"], [np.nan], {}),
        (["a"], [0.1, 0.2], {}),
        (["a"], [-0.1], {"kernel": similarity()}),
        (["a"], [0.1], {"metric": "manhattan"}),
    ],
)
def test_a_vote_without_meaning_is_refused(labels: list[str], scores: list[float], given: dict[str, object]) -> None:
    """No voter, none with a weight, no label, or no metric."""
    with pytest.raises(ValueError, match=r"votes|labels|metric"):
        vote(labels, scores, **given)  # type: ignore[arg-type]


def test_softmax_is_that_of_the_cosine_over_the_temperature() -> None:
    """Of unit vectors, whose squared distance is 2 - 2 cosine."""
    scores = np.array([0.9, 0.5, np.nan])

    weights = kernel_weights(scores, kernel=softmax(0.2))

    expected = np.exp(scores[:2] / 0.2)
    np.testing.assert_allclose(weights, [*(expected / expected.sum()), 0.0])


def test_a_cold_softmax_of_far_neighbours_still_has_a_winner() -> None:
    """Weights are relative to the nearest, so that not all underflow."""
    assert vote(["a", "b"], [-500.0, -600.0], metric="euclidean", kernel=softmax(0.001)).winner == "a"


def test_similarity_weighs_by_the_cosine_and_mutes_the_opposed() -> None:
    """Where heads should count more than nearness."""
    weights = kernel_weights([0.75, 0.25, -0.5], kernel=similarity())

    np.testing.assert_allclose(weights, [0.75, 0.25, 0.0])


@pytest.mark.parametrize("kernel", [inverse_distance(), softmax(), similarity()])
@pytest.mark.parametrize("scores", [[0.9, 0.8, 0.1], [1.0, 1.0, 1.0], [0.3, np.nan, np.nan]])
def test_no_kernel_weighs_a_farther_neighbour_more(kernel: Kernel, scores: list[float]) -> None:
    """All sum to 1, and padding has none."""
    weights = kernel_weights(scores, kernel=kernel)

    assert weights.sum() == pytest.approx(1.0)
    assert (np.diff(weights) <= 1e-12).all()
    assert (weights[np.isnan(scores)] == 0.0).all()


@pytest.mark.parametrize("make", [inverse_distance, softmax])
def test_a_kernel_without_width_is_refused(make: Callable[[float], Kernel]) -> None:
    """When it is made, not when the first neighbour is met."""
    with pytest.raises(ValueError, match="must be positive"):
        make(0.0)


def test_each_query_of_a_search_gets_its_own_vote() -> None:
    """Padding does not vote, and where there is no neighbour there is no vote."""
    neighbours = [StoredExperience(id=1, answer="a"), StoredExperience(id=2, answer="b")]
    found = SearchResult(
        ids=np.array([[1, 2], [2, -1], [-1, -1]]),
        scores=np.array([[0.9, 0.2], [0.5, np.nan], [np.nan, np.nan]], np.float32),
        sequence=1,
        generation=1,
        experiences=[neighbours, neighbours[1:], []],
    )

    first, second, third = votes(found, lambda neighbour: neighbour.answer)

    assert first is not None
    assert (first.winner, len(first.weights)) == ("a", 2)
    assert second is not None
    assert (second.winner, second.confidence) == ("b", 1.0)
    assert third is None


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_in_a_ranked_search_distance_counts_as_ever_and_is_multiplied_by_merit(metric: str) -> None:
    """Whatever the order and its scores were made of; what has left pads and does not vote."""
    scores = np.array([[0.9, 0.4, np.nan]]) if metric == "cosine" else np.array([[-0.2, -1.5, np.nan]])
    near = (1 + scores) / 2 if metric == "cosine" else 1 / (1 - scores)
    success, freshness = np.array([[0.25, 0.8, np.nan]]), np.array([[1.0, 0.5, np.nan]])
    found = SearchResult(
        ids=np.array([[1, 2, -1]]),
        scores=np.full((1, 3), 0.5, np.float32),
        sequence=1,
        generation=1,
        experiences=[[StoredExperience(id=1), StoredExperience(id=2)]],
        parts=RankParts(near, success, freshness),
    )

    (outcome,) = votes(found, lambda neighbour: neighbour.id, metric=metric)

    weights = kernel_weights(scores[0, :2], metric=metric) * [0.25, 0.4]
    assert outcome is not None
    np.testing.assert_allclose(outcome.weights, weights / weights.sum())


def test_neighbours_without_content_cannot_vote() -> None:
    """A raw search returns ids alone."""
    found = SearchResult(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32), 1, 1)

    with pytest.raises(ValueError, match="include"):
        votes(found, lambda neighbour: neighbour.answer)
