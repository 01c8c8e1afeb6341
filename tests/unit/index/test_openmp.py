"""Calls that compare many rows are spread over the cores, others are not, and neither finds anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest

from buffer_service.index import SPINS, openmp
from buffer_service.index.engine import Engine
from buffer_service.index.generations import load
from buffer_service.index.main import Effort
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


@pytest.mark.parametrize(("chosen", "few", "many"), [(0, 1, 3), (1, 1, 1), (2, 2, 2)])
def test_a_call_is_spread_from_many_rows_on(monkeypatch: pytest.MonkeyPatch, chosen: int, few: int, many: int) -> None:
    """Over all cores, unless a number was chosen: that one is for all calls."""
    monkeypatch.setattr(openmp, "cores", lambda: 3)
    openmp.use_threads(chosen)

    for rows, expected in ((0, few), (openmp.MANY_ROWS, many), (openmp.MANY_ROWS - 1, few)):
        openmp.prepare_thread(rows)
        assert faiss.omp_get_max_threads() == expected


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
