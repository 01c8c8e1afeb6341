"""Fresh rows in inverted lists under the main index's centroids: found as old ones are, also while more come in."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from buffer_service.contract.pointer import INITIAL
from buffer_service.index import lists as lists_module
from buffer_service.index.delta import Delta
from buffer_service.index.engine import Engine
from buffer_service.index.generations import load
from buffer_service.index.lists import Turns
from buffer_service.index.main import Effort, MainIndex
from buffer_service.index.view import View
from tests.helpers.device import DEVICE
from tests.helpers.generations import build
from tests.helpers.vectors import Vectors, unit_vectors
from tests.helpers.waiting import wait_until

MAIN_ROWS = 3000


def _main(folder: Path, metric: str = "cosine", storage: str = "sq8", dimension: int = 16) -> MainIndex:
    rows = dict(enumerate(unit_vectors(MAIN_ROWS, dimension), start=1))
    pointer = build(folder, rows, 1, watermark=1, index_type="ivf", metric=metric, storage=storage)
    return load(Engine(DEVICE), folder / "indexes", pointer, dimension, metric)


def _delta(main: MainIndex, rows: Vectors, rows_max: int = 4096) -> Delta:
    delta = Delta(main.vectors.shape[1], main.manifest.metric, rows_max, main.fresh_lists())
    delta.append(np.arange(MAIN_ROWS + 1, MAIN_ROWS + 1 + len(rows), dtype=np.int64), rows)
    return delta


def _view(main: MainIndex, delta: Delta, sequence: int = 1) -> View:
    return View(sequence, INITIAL, main, delta, delta.count)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("storage", ["fp32", "fp16", "sq8", "pq4"])
def test_a_fresh_row_is_found_by_its_own_vector(tmp_path: Path, metric: str, storage: str) -> None:
    """At the smallest effort as well, for its first list is the query's first list; and its score is exact."""
    fresh = unit_vectors(500, 16, seed=1)
    main = _main(tmp_path, metric, storage)
    view = _view(main, _delta(main, fresh))

    for effort in (Effort(probes=1), Effort()):
        found = view.search(fresh, 1, effort)
        assert found.ids[:, 0].tolist() == list(range(MAIN_ROWS + 1, MAIN_ROWS + 501))
        np.testing.assert_allclose(found.scores[:, 0], 1.0 if metric == "cosine" else 0.0, atol=1e-6)


def test_rows_filed_one_by_one_are_filed_as_in_a_batch(tmp_path: Path) -> None:
    """Where a row goes does not depend on what came with it."""
    fresh = unit_vectors(200, 16, seed=1)
    main = _main(tmp_path)
    together, apart = _delta(main, fresh), _delta(main, fresh[:0])
    for place in range(len(fresh)):
        apart.append(np.array([MAIN_ROWS + 1 + place], np.int64), fresh[place : place + 1])

    queries = unit_vectors(50, 16, seed=2)
    np.testing.assert_array_equal(
        _view(main, together).search(queries, 10).ids, _view(main, apart).search(queries, 10).ids
    )


def test_all_lists_give_the_exact_answer_over_main_and_delta(tmp_path: Path) -> None:
    """With every list searched nothing is approximate: ids and scores are those of a scan."""
    fresh = unit_vectors(300, 16, seed=1)
    main = _main(tmp_path, storage="fp32")
    every = np.concatenate([unit_vectors(MAIN_ROWS, 16), fresh])
    queries = unit_vectors(20, 16, seed=2)

    found = _view(main, _delta(main, fresh)).search(queries, 10, Effort(probes=10**6))

    scores = queries @ every.T
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :10] + 1
    np.testing.assert_array_equal(found.ids, expected)
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, expected - 1, axis=1), atol=1e-6)


def test_a_view_does_not_see_what_was_filed_after_it(tmp_path: Path) -> None:
    """The lists have grown, and every row that came later is nearer: the view's own rows are all there nonetheless."""
    main = _main(tmp_path)
    query = unit_vectors(1, 16, seed=1)
    delta = _delta(main, np.repeat(query, 50, axis=0))
    view = _view(main, delta)
    delta.append(np.arange(9001, 9501, dtype=np.int64), np.repeat(query, 500, axis=0))

    found = view.search(query, 50)

    assert sorted(found.ids[0].tolist()) == list(range(MAIN_ROWS + 1, MAIN_ROWS + 51))


def test_more_lists_are_searched_until_there_are_k_results(tmp_path: Path) -> None:
    """A large k gets k rows though the lists first searched hold fewer; the dead are not among them."""
    main = _main(tmp_path)
    delta = _delta(main, unit_vectors(100, 16, seed=1))
    for experience in range(1, 1001):
        main.mark_dead(experience, 1)

    found = _view(main, delta).search(unit_vectors(3, 16, seed=2), 2000, Effort(probes=1))

    for ids in found.ids:
        assert len(set(ids.tolist())) == 2000
        assert ids.min() > 1000


def test_searching_while_rows_are_filed_finds_every_acknowledged_row(tmp_path: Path) -> None:
    """Lists move in memory when they grow; readers of any view in between get right answers."""
    main = _main(tmp_path)
    fresh = unit_vectors(4000, 16, seed=1)
    delta = _delta(main, fresh[:1])
    views = [_view(main, delta)]
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        random = np.random.default_rng(0)
        while not done.is_set():
            view = views[-1]
            places = random.integers(view.delta_rows, size=8)
            found = view.search(fresh[places], 3)
            if (
                found.ids[:, 0].tolist() != (places + MAIN_ROWS + 1).tolist()
                or found.ids.max() > MAIN_ROWS + view.delta_rows
            ):
                wrong.append(f"{places} of {view.delta_rows}: {found.ids.tolist()}")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for start in range(1, 4000, 7):
        rows = fresh[start : start + 7]
        delta.append(np.arange(MAIN_ROWS + 1 + start, MAIN_ROWS + 1 + start + len(rows), dtype=np.int64), rows)
        views.append(_view(main, delta))
    done.set()
    for reader in readers:
        reader.join()

    assert wrong == []


def test_lists_do_not_grow_while_they_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAISS moves a list in memory when it grows; an append waits for the search that reads it, and not longer."""
    fresh = unit_vectors(100, 16, seed=1)
    main = _main(tmp_path)
    delta = _delta(main, fresh[:50])
    filed = delta.lists
    assert filed is not None
    appending = threading.Thread(target=filed.append, args=(fresh[50:],))
    during: list[tuple[bool, int]] = []

    def search_lists(index: Any, *given: Any) -> object:  # noqa: ANN401
        appending.start()
        appending.join(0.2)
        during.append((appending.is_alive(), index.ntotal))
        return real(index, *given)

    real = lists_module.search_lists
    monkeypatch.setattr(lists_module, "search_lists", search_lists)
    filed.search(fresh[:1], 5, filed.coarse.nearest(fresh[:1], 1))
    appending.join(10)

    assert during == [(True, 50)]
    assert filed._index.ntotal == 100


def test_who_waits_for_the_lists_is_next() -> None:
    """An append of many blocks lets a search through between two of them."""
    turns = Turns()
    order: list[str] = []

    def search() -> None:
        with turns:
            order.append("search")

    searching = threading.Thread(target=search)
    with turns:
        order.append("first block")
        searching.start()
        wait_until(turns.next.locked, "the search waits")
    with turns:
        order.append("second block")
    searching.join()

    assert order == ["first block", "search", "second block"]
