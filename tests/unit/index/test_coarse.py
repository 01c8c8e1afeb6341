"""Which inverted lists a vector belongs to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from buffer_service.index.coarse import Coarse
from tests.helpers.vectors import unit_vectors


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_quantised_centroids_give_nearly_the_exact_lists(metric: str) -> None:
    """The first list is the exact one, and of sixteen nearly all are."""
    centroids, queries = unit_vectors(1000, 64), unit_vectors(300, 64, seed=1)

    lists = Coarse.of(centroids, metric, queries).nearest(queries, 16)

    exact = np.argsort(-(queries @ centroids.T), axis=1)[:, :16]
    assert float(np.mean(lists[:, 0] == exact[:, 0])) > 0.95
    assert np.mean([len(set(ours) & set(true)) / 16 for ours, true in zip(lists, exact, strict=True)]) > 0.9


def test_few_centroids_are_compared_exactly() -> None:
    """All lists can be asked for, in order."""
    centroids, queries = unit_vectors(20, 8), unit_vectors(5, 8, seed=1)

    lists = Coarse.of(centroids, "cosine", queries).nearest(queries, 20)

    np.testing.assert_array_equal(lists, np.argsort(-(queries @ centroids.T), axis=1, kind="stable"))


def test_the_cheapest_codes_that_file_rows_rightly_are_taken(tmp_path: Path) -> None:
    """Centroids far apart are told by few bits; where rows lie between many, longer codes and more exact ones are."""
    centroids = unit_vectors(1000, 256)
    near = centroids + 0.1 * unit_vectors(1000, 256, seed=1)
    hard = unit_vectors(1000, 256, seed=1)

    sizes = []
    for rows in (near, hard):
        coarse = Coarse.of(centroids, "cosine", rows)
        coarse.write(tmp_path / "coarse.faiss")
        sizes.append((tmp_path / "coarse.faiss").stat().st_size)
        again = Coarse.read(tmp_path / "coarse.faiss")
        true = np.argmax(rows @ centroids.T, axis=1)
        assert np.mean(again.nearest(rows, 1)[:, 0] == true) >= (0.999 if rows is near else 0.95)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("count", [20, 1000])
def test_what_was_written_is_read_back(tmp_path: Path, count: int) -> None:
    """The same lists, for all of them too."""
    coarse = Coarse.of(unit_vectors(count, 16), "cosine", unit_vectors(50, 16, seed=1))
    coarse.write(tmp_path / "coarse.faiss")
    again = Coarse.read(tmp_path / "coarse.faiss")
    queries = unit_vectors(50, 16, seed=1)

    assert again.lists == count
    np.testing.assert_array_equal(again.nearest(queries, 4), coarse.nearest(queries, 4))
    assert sorted(again.nearest(queries[:1], count)[0].tolist()) == list(range(count))


def test_the_lists_of_a_vector_do_not_depend_on_the_batch() -> None:
    """What was filed alone is looked for in a batch, and the other way round."""
    queries = unit_vectors(64, 64, seed=1)
    coarse = Coarse.of(unit_vectors(1000, 64), "cosine", queries)

    alone = np.concatenate([coarse.nearest(query[None], 4) for query in queries])

    np.testing.assert_array_equal(coarse.nearest(queries, 4), alone)


@pytest.mark.parametrize("probes", [16, 65, 300])
def test_lists_told_roughly_hold_the_list_in_which_a_vector_is_filed(probes: int) -> None:
    """However many are asked for, and most of the others are the nearest, too."""
    queries = unit_vectors(500, 64, seed=1)
    coarse = Coarse.of(unit_vectors(1000, 64), "cosine", queries)

    rough, exact = coarse.nearest(queries, probes, roughly=True), coarse.nearest(queries, probes)

    assert np.all(np.any(rough == coarse.nearest(queries, 1), axis=1))
    assert np.mean([len(set(ours) & set(true)) / probes for ours, true in zip(rough, exact, strict=True)]) > 0.7
