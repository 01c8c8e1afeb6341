"""How inverted lists code their rows: codes choose candidates, the exact vectors rank them; a build takes what pays."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from buffer_service.contract.pointer import INITIAL
from buffer_service.index.build import Built, build_index, recoded
from buffer_service.index.choice import Choice
from buffer_service.index.codes import PQ4, SQ8, lists_of
from buffer_service.index.delta import Delta
from buffer_service.index.engine import Engine
from buffer_service.index.generations import load, read_manifest
from buffer_service.index.main import Effort, MainIndex
from buffer_service.index.rows import Rows
from buffer_service.index.view import Allowed, View
from tests.helpers.generations import build
from tests.helpers.vectors import Vectors, around, unit_vectors

DIMENSION = 256


def _hard(rows: int, seed: int = 0) -> Vectors:
    """Return rows without clusters: gaussians of fewer dimensions through a random network."""
    weights = np.random.default_rng(9)
    first, second = weights.standard_normal((40, 96)), weights.standard_normal((96, DIMENSION))
    hidden = np.maximum(np.random.default_rng(seed).standard_normal((rows, 40)) @ first, 0) @ second
    result: Vectors = (hidden / np.linalg.norm(hidden, axis=1, keepdims=True)).astype(np.float32)
    return result


ROWS = _hard(12_000)


def _built(folder: Path, storage: str) -> Built:
    ids = np.arange(1, len(ROWS) + 1, dtype=np.int64)
    rows = Rows([(ids, ROWS)], ids, ROWS.shape[1])
    return build_index(rows, "cosine", Choice("ivf", ""), storage, folder, "cpu")


def _main(folder: Path, rows: Vectors = ROWS, metric: str = "cosine", **changes: object) -> MainIndex:
    pointer = build(folder, dict(enumerate(rows, start=1)), 1, watermark=1, index_type="ivf", metric=metric, **changes)
    return load(Engine("cpu"), folder / "indexes", pointer, rows.shape[1], metric)


def _view(main: MainIndex) -> View:
    return View(1, INITIAL, main, Delta(main.vectors.shape[1], main.manifest.metric, 1), 0)


def test_coding_rows_anew_leaves_them_in_their_lists(tmp_path: Path) -> None:
    """So nothing has to be clustered or assigned twice."""
    before = _built(tmp_path, SQ8)

    after = recoded(before, "cosine")

    assert isinstance(after.index, faiss.IndexIVFPQFastScan)
    np.testing.assert_array_equal(lists_of(after.index), lists_of(before.index))
    assert after.coarse is before.coarse


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_four_bit_codes_give_the_exact_answer_where_all_candidates_are_ranked(tmp_path: Path, metric: str) -> None:
    """With every list searched and every row a candidate, ids and scores are those of a scan; none comes twice."""
    main = _main(tmp_path, metric=metric, storage=PQ4)
    view, queries = _view(main), _hard(20, seed=2)

    found = view.search(queries, len(ROWS), Effort(probes=10**6))
    exact = view.exact(queries, 10)

    np.testing.assert_array_equal(found.ids[:, :10], exact.ids)
    np.testing.assert_allclose(found.scores[:, :10], exact.scores, atol=1e-6)
    assert all(len(set(ids.tolist())) == len(ROWS) for ids in found.ids)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_four_bit_codes_reach_the_floor_and_find_each_row_by_its_own_vector(tmp_path: Path, metric: str) -> None:
    """Both by what the manifest says; the candidates of a single result are many, for its code tells little."""
    main = _main(tmp_path, metric=metric, storage=PQ4, recall_floor=0.95)
    view, queries = _view(main), _hard(200, seed=2)

    found, exact = view.search(queries, 10), view.exact(queries, 10)

    shares = [len(set(ours) & set(true)) / 10 for ours, true in zip(found.ids, exact.ids, strict=True)]
    assert np.mean(shares) >= 0.93
    assert main.manifest.recall_at_10 >= 0.95
    assert view.search(ROWS, 1).ids[:, 0].tolist() == list(range(1, len(ROWS) + 1))


def test_what_left_and_what_a_filter_bars_is_not_among_four_bit_candidates(tmp_path: Path) -> None:
    """Though most rows have left, k of the others are found, and of those only the ones that are allowed."""
    main = _main(tmp_path, storage=PQ4)
    for experience in range(1, 10_001):
        main.mark_dead(experience, 1)
    queries = _hard(20, seed=2)

    found = _view(main).search(queries, 50)
    assert found.ids.min() > 10_000

    barred = Allowed(1, np.arange(1, len(ROWS) + 1) % 2 == 0)
    found = _view(main).search_among(queries, 50, barred)
    assert found.ids.min() > 10_000
    assert not np.any(found.ids % 2)


def test_auto_takes_four_bits_where_a_search_looks_at_many_rows(tmp_path: Path) -> None:
    """Data without clusters: the reason names the codes and the rows, and the floor holds all the same."""
    _main(tmp_path, storage="auto", recall_floor=0.95)
    manifest, _ = read_manifest(tmp_path / "indexes", 1)

    assert "coded as pq4" in manifest.reason
    assert manifest.parameters["refine"] >= 8
    assert manifest.recall_at_10 >= 0.95


@pytest.mark.parametrize(
    ("rows", "changes"),
    [
        (around(unit_vectors(40, DIMENSION, seed=3), 12_000, 0.1), {}),
        (ROWS, {"device": "gpu"}),
        (ROWS[:900], {"n_probes": 64}),
    ],
    ids=["few rows are compared", "a GPU has no 4-bit codes", "too few to train"],
)
def test_auto_takes_eight_bits_elsewhere(tmp_path: Path, rows: Vectors, changes: dict[str, object]) -> None:
    """Where four would gain nothing, or cannot be had."""
    _main(tmp_path, rows, storage="auto", **changes)

    assert "coded as sq8" in read_manifest(tmp_path / "indexes", 1)[0].reason


def test_auto_keeps_eight_bits_where_four_do_not_reach_the_floor(tmp_path: Path) -> None:
    """Thousands of rows so alike that all have one 4-bit code: the nearest are not among the candidates."""
    rows = around(unit_vectors(3, DIMENSION), 12_000, 0.1, seed=1)

    _main(tmp_path, rows, storage="auto", n_probes=80, recall_floor=0.9)

    manifest, _ = read_manifest(tmp_path / "indexes", 1)
    assert manifest.recall_at_10 >= 0.9
    assert "coded as sq8" in manifest.reason


@pytest.mark.parametrize("dimension", [7, 128, 300, 512, 521, 768])
def test_any_dimension_can_be_coded_in_four_bits(tmp_path: Path, dimension: int) -> None:
    """Parts are of equal size; a prime number of dimensions has as many parts."""
    rows = unit_vectors(1500, dimension)

    main = _main(tmp_path, rows, storage=PQ4, recall_floor=0.5)

    assert _view(main).search(rows[:50], 1).ids[:, 0].tolist() == list(range(1, 51))
    assert "coded as pq4" in main.manifest.reason


def test_a_graph_is_coded_in_eight_bits_in_place_of_four(tmp_path: Path) -> None:
    """Four-bit codes are compared list by list; a graph visits rows one by one."""
    content = dict(enumerate(ROWS[:1500], start=1))
    pointer = build(tmp_path, content, 1, watermark=1, index_type="hnsw", storage=PQ4)

    assert load(Engine("cpu"), tmp_path / "indexes", pointer, DIMENSION, "cosine").manifest.parameters["refine"] == 2
