"""The vote of neighbours: kernel weights, winner, confidence."""

from __future__ import annotations

import numpy as np
import pytest

from buffer_client.vote import kernel_weights, squared_distances, vote


def test_weight_falls_with_the_squared_distance_as_in_episodic_control() -> None:
    """Weight is 1 / (d² + delta), made to sum to 1."""
    scores = np.array([1.0, 0.5])

    weights = kernel_weights(scores, delta=0.1)

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
        (["a"], [0.1], {"delta": 0.0}),
        (["a"], [0.1], {"metric": "manhattan"}),
    ],
)
def test_a_vote_without_meaning_is_refused(labels: list[str], scores: list[float], given: dict[str, object]) -> None:
    """No voter, no label, or no kernel."""
    with pytest.raises(ValueError, match=r"vote|labels|delta|metric"):
        vote(labels, scores, **given)  # type: ignore[arg-type]
