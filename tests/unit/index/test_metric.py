"""Scores: higher is nearer, for both metrics."""

from __future__ import annotations

import numpy as np
import pytest

from buffer_service.index.metric import exact_positions, nearest, scores_at
from tests.helpers.vectors import Vectors, unit_vectors


def _scores(metric: str, queries: Vectors, rows: Vectors) -> Vectors:
    wide, long = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        return (wide @ long.T).astype(np.float32)
    return -np.linalg.norm(wide[:, None] - long[None], axis=2).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_scan_finds_the_nearest_with_their_exact_scores(metric: str) -> None:
    """In batches of any size, though larger ones are computed in another way."""
    rows, queries = unit_vectors(200, 16), unit_vectors(300, 16, seed=1)
    true = _scores(metric, queries, rows)

    for count in (1, 300):
        positions = exact_positions(metric, queries[:count], rows, 10)
        assert np.array_equal(positions, nearest(true[:count], 10))
        found = scores_at(metric, queries[:count], rows, positions)
        np.testing.assert_allclose(found, np.take_along_axis(true[:count], positions, axis=1), atol=2e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_no_row_has_the_lowest_score(metric: str) -> None:
    """A scan of fewer than k rows leaves places empty, and so does one of none."""
    rows, queries = unit_vectors(2, 16), unit_vectors(1, 16, seed=1)

    few = exact_positions(metric, queries, rows, 3)
    none = exact_positions(metric, queries, rows[:0], 3)

    assert np.isneginf(scores_at(metric, queries, rows, few)).tolist() == [[False, False, True]]
    assert np.isneginf(scores_at(metric, queries, rows[:0], none)).all()


def test_nearest_breaks_ties_by_the_lower_column() -> None:
    """Equal scores come in the order of their columns, so that answers are repeatable."""
    scores = np.array([[1.0, 2.0, 2.0, 0.0]], np.float32)

    assert nearest(scores, 3).tolist() == [[1, 2, 0]]


def test_nearest_returns_all_when_k_is_larger() -> None:
    """K beyond the number of columns gives every column once."""
    scores = np.array([[1.0, 3.0, 2.0]], np.float32)

    assert nearest(scores, 10).tolist() == [[1, 2, 0]]
