"""Scores: higher is nearer, for both metrics."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from buffer_service.index.metric import exact_scores, faiss_metric, nearest, scores_from_faiss
from tests.helpers.vectors import unit_vectors


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_exact_scores_are_what_faiss_finds(metric: str) -> None:
    """The delta's scores and a flat index's scores agree, so that merging them is right."""
    rows, queries = unit_vectors(200, 16), unit_vectors(5, 16, seed=1)
    index = faiss.IndexFlat(16, faiss_metric(metric))
    index.add(rows)

    distances, positions = index.search(queries, 10)
    ours = exact_scores(metric, queries, rows)

    found = np.take_along_axis(ours, nearest(ours, 10), axis=1)
    np.testing.assert_allclose(scores_from_faiss(metric, distances), found, atol=2e-6)
    assert np.array_equal(positions, nearest(ours, 10))


def test_nearest_breaks_ties_by_the_lower_column() -> None:
    """Equal scores come in the order of their columns, so that answers are repeatable."""
    scores = np.array([[1.0, 2.0, 2.0, 0.0]], np.float32)

    assert nearest(scores, 3).tolist() == [[1, 2, 0]]


def test_nearest_returns_all_when_k_is_larger() -> None:
    """K beyond the number of columns gives every column once."""
    scores = np.array([[1.0, 3.0, 2.0]], np.float32)

    assert nearest(scores, 10).tolist() == [[1, 2, 0]]
