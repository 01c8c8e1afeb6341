"""Calls are spread over no more cores than there are, by threads that say so, and find nothing else for that."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer_service.index import SPINS, openmp
from buffer_service.index.engine import Engine
from buffer_service.index.generations import load
from buffer_service.index.main import Effort
from buffer_service.index.metric import scores_at
from tests.helpers.generations import build
from tests.helpers.vectors import unit_vectors

ROWS, DIMENSION = 3000, 16


@pytest.fixture(autouse=True)
def one_thread_afterwards() -> Iterator[None]:
    """Leave the process as the other tests expect it."""
    yield
    openmp.use_threads(1)
    openmp.prepare_thread()


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 6), ("900000 100000", 6), ("?", 6), (None, 6)],
)
def test_no_more_cores_are_used_than_the_container_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, expected: int
) -> None:
    """By its control group's quota, and by the process's affinity, here six."""
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(openmp, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))

    assert openmp.cores() == expected


def _threads(rows: int) -> int:
    openmp.prepare_thread(rows)
    return int(faiss.omp_get_max_threads())


@pytest.mark.parametrize(
    ("chosen", "over", "few", "many"),
    [(0, "team", openmp.TEAM, openmp.TEAM), (0, "cores", 1, 3), (1, "team", 1, 1), (2, "cores", 2, 2)],
)
def test_calls_are_spread_where_a_thread_says_so(
    monkeypatch: pytest.MonkeyPatch, chosen: int, over: str, few: int, many: int
) -> None:
    """Over a team or, from many rows on, over all cores; unless a number was chosen, which is for all calls."""
    monkeypatch.setattr(openmp, "cores", lambda: 3)
    openmp.use_threads(chosen)
    usual = max(1, chosen)
    assert (_threads(0), _threads(openmp.MANY_ROWS)) == (usual, usual)

    assert openmp.spread(small=over == "team") == (chosen == 0)
    assert (_threads(0), _threads(openmp.MANY_ROWS - 1), _threads(openmp.MANY_ROWS)) == (few, few, many)
    openmp.alone()
    assert (_threads(0), _threads(openmp.MANY_ROWS)) == (usual, usual)
    openmp.give_up()


def test_a_block_spreads_only_calls_that_compare_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """To begin threads takes longer than a small call; what the thread has said itself holds."""
    monkeypatch.setattr(openmp, "cores", lambda: 3)
    openmp.use_threads(0)

    with openmp.spreading():
        assert (_threads(openmp.MANY_ROWS - 1), _threads(openmp.MANY_ROWS)) == (1, 3)
    assert _threads(openmp.MANY_ROWS) == 1

    openmp.alone()
    with openmp.spreading():
        assert _threads(openmp.MANY_ROWS) == 1
    assert openmp.spread(small=True)
    with openmp.spreading():
        assert _threads(0) == openmp.TEAM
    assert _threads(0) == openmp.TEAM
    openmp.give_up()


@given(cores=st.integers(1, 12), claims=st.lists(st.booleans(), min_size=1, max_size=12))
def test_no_more_threads_than_cores_are_spread_over(cores: int, claims: list[bool]) -> None:
    """Of all threads together, whichever claim and give up; else each step of a search waits for a thread to wake."""
    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(len(claims)) as pool:
        patched.setattr(openmp, "cores", lambda: cores)
        openmp.use_threads(0)
        barrier = threading.Barrier(len(claims))

        def claim(*, keep: bool) -> int:
            """Return the threads beside this one, 0 where it gave them up."""
            mine = _threads(openmp.MANY_ROWS) - 1 if openmp.spread(small=False) else 0
            if not keep:
                openmp.give_up()
            barrier.wait(10)
            return mine if keep else 0

        def end() -> None:
            openmp.give_up()
            barrier.wait(10)

        kept = list(pool.map(lambda keep: claim(keep=keep), claims))
        for ended in [pool.submit(end) for _ in claims]:
            ended.result()
        assert sum(kept) <= cores - 1

        assert openmp.spread(small=True) == (cores > 1)
        openmp.give_up()


def test_threads_end_when_they_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would count as waiting for work, and keep those of others from waiting on their cores."""
    monkeypatch.setattr(openmp, "cores", lambda: 3)
    openmp.use_threads(0)
    rows = unit_vectors(64, DIMENSION)
    before = _tasks()
    assert openmp.spread(small=True)
    scores_at("cosine", rows, rows, np.zeros((64, 64), np.int64))
    begun = _tasks() - before

    openmp.give_up()

    assert len(begun) == openmp.TEAM - 1
    for task in begun:
        _wait_for_the_end(task)


def _tasks() -> set[Path]:
    return set(Path("/proc/self/task").iterdir())


def _wait_for_the_end(task: Path) -> None:
    deadline = time.monotonic() + 10
    while task in _tasks():
        assert time.monotonic() < deadline


@pytest.mark.parametrize("index_type", ["flat", "ivf", "hnsw"])
def test_a_search_finds_the_same_on_any_number_of_cores(tmp_path: Path, index_type: str) -> None:
    """One query and many, in the main index and among fresh rows."""
    rows = unit_vectors(ROWS, DIMENSION)
    pointer = build(tmp_path, dict(enumerate(rows, start=1)), 1, watermark=1, index_type=index_type)
    queries = unit_vectors(40, DIMENSION, seed=1)
    answers = []
    for threads in (1, 4):
        main = load(Engine("cpu", threads), tmp_path / "indexes", pointer, DIMENSION, "cosine")
        effort = main.effort(Effort(probes=main.effort_max, ef=200))
        lists = main.lists(queries, effort)
        fresh = main.fresh_lists()
        if fresh is not None:
            fresh.append(rows)
        found = [main.search(queries, 10, 1, effort, lists)]
        found += [main.search(queries[:1], 10, 1, effort, None if lists is None else lists[:1])]
        found += [] if fresh is None or lists is None else [fresh.search(queries, 10, lists)]
        answers.append(found)

    for alone, spread in zip(*answers, strict=True):
        np.testing.assert_array_equal(alone, spread)


@pytest.mark.parametrize(("given", "expected"), [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, 7)])
def test_faiss_threads_wait_briefly_unless_the_environment_says_else(given: dict[str, str], expected: int) -> None:
    """As the OpenMP that FAISS brings says itself when it is loaded."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", "from buffer_service.index import openmp"]

    shown = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env=environment | given | {"OMP_DISPLAY_ENV": "verbose"},
    ).stderr

    assert f"GOMP_SPINCOUNT = '{expected}'" in shown


def test_a_core_is_free_where_fewer_threads_run_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """This thread runs, at least."""
    monkeypatch.setattr(openmp._load, "cores", 1)
    assert not openmp.core_free()
    monkeypatch.setattr(openmp._load, "cores", 100_000)
    assert openmp.core_free()


def test_a_core_counts_as_free_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Then it shows in what batches take."""
    monkeypatch.setattr(openmp, "_LOAD", tmp_path / "none")
    monkeypatch.setattr(openmp, "_load", openmp._Load())

    assert openmp.core_free()
