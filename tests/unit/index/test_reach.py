"""Reach: lists much farther than the nearest are left out, where a build has found that nothing is lost by it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer_service.contract.generation import INDEX_FILE, generation_name
from buffer_service.contract.pointer import INITIAL
from buffer_service.index.coarse import Coarse
from buffer_service.index.delta import Delta
from buffer_service.index.engine import Engine
from buffer_service.index.generations import load, read_manifest
from buffer_service.index.main import REACH_NAME, TUNED_K, Effort, MainIndex
from buffer_service.index.view import View
from tests.helpers.generations import build
from tests.helpers.vectors import Vectors, around, unit_vectors

DIMENSION, ROWS = 64, 6000


def _clusters(rows: int, seed: int = 0) -> Vectors:
    return around(unit_vectors(80, DIMENSION, seed=3), rows, 0.4, seed)


def _main(folder: Path, rows: Vectors, storage: str = "sq8", metric: str = "cosine", **changes: object) -> MainIndex:
    content = dict(enumerate(rows, start=1))
    pointer = build(folder, content, 1, watermark=1, index_type="ivf", storage=storage, metric=metric, **changes)
    return load(Engine("cpu"), folder / "indexes", pointer, rows.shape[1], metric)


def _with(main: MainIndex, folder: Path, **parameters: int | None) -> MainIndex:
    """Return the same index as if a build had found these parameters, and not those that are None."""
    found = {name: value for name, value in {**main.manifest.parameters, **parameters}.items() if value is not None}
    engine = Engine("cpu")
    index = engine.open(folder / "indexes" / generation_name(1) / INDEX_FILE)
    manifest = msgspec.structs.replace(main.manifest, parameters=found)
    return MainIndex(engine, index, main.ids, main.vectors, main.coarse, manifest)


def _view(main: MainIndex, fresh: Vectors | None = None) -> View:
    delta = Delta(DIMENSION, main.manifest.metric, 4096, main.fresh_lists())
    if fresh is not None:
        delta.append(np.arange(len(fresh), dtype=np.int64) + ROWS + 1, fresh)
    return View(1, INITIAL, main, delta, delta.count)


@settings(deadline=None)
@given(
    st.sampled_from(["cosine", "euclidean"]), st.integers(2, 40), st.integers(0, 30), st.floats(0, 2), st.integers(0, 9)
)
def test_the_lists_within_reach_are_those_by_squared_distance(
    metric: str, lists: int, queries: int, reach: float, seed: int
) -> None:
    """The nearest always, the others in order while they are near enough, and of many columns none without a list."""
    centroids = unit_vectors(lists, 8, seed)
    asked = np.concatenate([unit_vectors(queries, 8, seed + 10), centroids[:1]])  # one is a centroid itself
    coarse = Coarse.of(centroids, metric, asked)

    near = coarse.nearest(asked, lists, reach=reach)

    every = coarse.nearest(asked, lists)
    squared = ((asked[:, None, :] - centroids[every]) ** 2).sum(axis=2, dtype=np.float64)
    sure, barred = squared < (1 + reach) * squared[:, :1] - 1e-5, squared > (1 + reach) * squared[:, :1] + 1e-5
    sure[:, 0] = True
    columns = near.shape[1]
    kept = np.full_like(every, -1)
    kept[:, :columns] = near
    assert np.all(kept[sure] == every[sure])
    assert np.all(kept[barred] == -1)
    assert np.all((kept == every) | (kept == -1))
    assert columns < 8 or np.any(near[:, -1] >= 0)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("storage", ["fp32", "fp16", "sq8", "pq4"])
def test_a_search_within_reach_finds_what_its_lists_hold(tmp_path: Path, storage: str, metric: str) -> None:
    """Old rows and fresh ones: what a search of as many lists as each query has within reach finds."""
    rows, fresh = _clusters(ROWS), _clusters(400, seed=1)
    main = _with(_main(tmp_path, rows, storage, metric), tmp_path, nprobe=6, **{REACH_NAME: 60})
    view, queries = _view(main, fresh), _clusters(60, seed=2)

    found = view.search(queries, TUNED_K)

    lists = main.lists(queries, 6, 60)
    assert lists is not None
    within = (lists >= 0).sum(axis=1)
    assert len(set(within.tolist())) > 1
    for place, probes in enumerate(within.tolist()):
        alone = view.search(queries[place : place + 1], TUNED_K, Effort(probes=probes))
        np.testing.assert_array_equal(found.ids[place], alone.ids[0])


def test_a_build_leaves_far_lists_out_where_nothing_is_lost(tmp_path: Path) -> None:
    """Of sixteen lists of clustered rows most are left out; of rows without clusters none, for each would be missed."""
    clustered = _main(tmp_path / "clustered", _clusters(ROWS), n_probes=16, recall_floor=0.9)
    view, queries = _view(clustered), _clusters(300, seed=2)
    lists = clustered.lists(queries, 16, clustered.reach_percent(Effort(), TUNED_K))
    assert lists is not None
    assert np.mean(lists >= 0) * lists.shape[1] < 8

    found, every, exact = view.search(queries, 10), view.search(queries, 10, Effort(probes=16)), view.exact(queries, 10)
    hits = [np.count_nonzero(answer.scores >= exact.scores[:, -1:] - 1e-6) for answer in (found, every)]
    assert hits[0] >= 0.995 * hits[1]

    _main(tmp_path / "hard", unit_vectors(ROWS, DIMENSION), n_probes=16, recall_floor=0.9)
    assert REACH_NAME not in read_manifest(tmp_path / "hard" / "indexes", 1)[0].parameters


@pytest.mark.parametrize(("effort", "k"), [(Effort(probes=6), TUNED_K), (Effort(), TUNED_K + 1)])
def test_all_lists_are_searched_where_the_build_has_not_judged(tmp_path: Path, effort: Effort, k: int) -> None:
    """A number of lists that was asked for is searched, and more neighbours than it tried may lie farther."""
    narrow = _with(_main(tmp_path, _clusters(ROWS)), tmp_path, nprobe=6, **{REACH_NAME: 0})
    wide = _with(narrow, tmp_path, **{REACH_NAME: None})
    queries = _clusters(50, seed=2)

    np.testing.assert_array_equal(_view(narrow).search(queries, k, effort).ids, _view(wide).search(queries, k).ids)
    assert not np.array_equal(_view(narrow).search(queries, 10).ids, _view(wide).search(queries, 10).ids)


def test_only_queries_that_lack_rows_are_searched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose lists within reach hold fewer than k get k from more lists; the others keep their answer."""
    main = _with(_main(tmp_path, _clusters(ROWS)), tmp_path, nprobe=4, **{REACH_NAME: 0})
    queries = _clusters(40, seed=2)
    before = _view(main).search(queries, 10).ids
    first = np.concatenate([before[:3].ravel(), _view(main).search(queries[:3], 300, Effort(probes=1)).ids.ravel()])
    for experience in np.unique(first[first > 0]).tolist():
        main.mark_dead(experience, 1)
    searched: list[int] = []
    lists = MainIndex.lists

    def counted(self: MainIndex, queries: Vectors, *given: int) -> object:
        searched.append(len(queries))
        return lists(self, queries, *given)

    monkeypatch.setattr(MainIndex, "lists", counted)
    found = _view(main).search(queries, 10)

    assert np.all(found.ids > 0)
    assert not np.isin(found.ids, first).any()
    assert searched[0] == len(queries)
    assert 3 <= searched[1] < len(queries)
    unharmed = ~np.isin(before, first).any(axis=1)
    np.testing.assert_array_equal(found.ids[unharmed], before[unharmed])
