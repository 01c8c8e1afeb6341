"""Beside searches the writer takes a bounded part of a core; where nobody searches, or few write, it never rests."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.precedence import REST_MAX_S, SAVED_MAX_S, SHARE, Precedence
from buffer_service.index.metric import Vectors
from buffer_service.index.view import Found, View
from buffer_service.settings import EmbeddingSettings, RebuildSettings, Settings
from tests.helpers.vectors import unit_vectors

VECTORS = unit_vectors(8, 4)
SETTINGS = Settings(embedding=EmbeddingSettings(dimension=4), rebuild=RebuildSettings(mode="off"))
APPENDS_MAX = 10_000
WORKS = st.lists(st.floats(0.0, 0.1), min_size=1, max_size=50)
"""Seconds of processor time."""


class Worker:
    """A writer on a clock of its own, which works on a core that it has to itself; it is what it knows of searches."""

    def __init__(self, *, beside_searches: bool = True, searching: float = 1.0) -> None:
        self.now = 0.0
        self.worked_s = 0.0
        self.rests: list[float] = []
        self._beside_searches = beside_searches
        self._searching = searching
        self._precedence = Precedence(self, clock=lambda: self.now, processor=lambda: self.worked_s, wait=self._rest)

    @property
    def searched_s(self) -> float:
        """A share of the time."""
        return self._searching * self.now

    def searched_since(self, moment: float) -> bool:
        """Tell whether anybody searches while it works."""
        assert moment <= self.now
        return self._beside_searches

    def work(self, duration_s: float, idle_s: float = 0.0) -> None:
        """Wait for something to do, do it, and rest."""
        self.now += idle_s
        self._precedence.begin()
        self.now += duration_s
        self.worked_s += duration_s
        self._precedence.give()

    def _rest(self, duration_s: float) -> None:
        self.rests.append(duration_s)
        self.now += duration_s


@given(WORKS)
def test_who_writes_while_nobody_searches_never_rests(works: list[float]) -> None:
    """However much it is, and however much is searched in between."""
    worker = Worker(beside_searches=False)
    for duration_s in works:
        worker.work(duration_s)

    assert worker.rests == []


@given(st.lists(st.floats(0.0, SHARE * REST_MAX_S), min_size=1, max_size=200))
def test_beside_searches_the_writer_takes_its_share_and_what_it_had_saved(works: list[float]) -> None:
    """At the end of each rest, whatever came before."""
    worker = Worker()
    for duration_s in works:
        worker.work(duration_s)
        assert worker.worked_s <= SAVED_MAX_S + SHARE * worker.now + 1e-9


@given(WORKS)
def test_no_rest_is_longer_than_a_write_may_wait(works: list[float]) -> None:
    """Not even after work that took far more than the allowance."""
    worker = Worker()
    for duration_s in works:
        worker.work(duration_s)

    assert all(0 < rest_s <= REST_MAX_S for rest_s in worker.rests)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=200))
def test_who_writes_little_never_rests(shares: list[float]) -> None:
    """So a few appends each second are as quick beside searches as without."""
    worker = Worker()
    for share in shares:
        worker.work(share * SHARE * 0.01, idle_s=0.01)

    assert worker.rests == []


@given(WORKS, st.floats(0.0, SHARE))
def test_beside_few_searches_the_writer_never_rests(works: list[float], searching: float) -> None:
    """A load of large groups is not held up by a search now and then."""
    worker = Worker(searching=searching)
    for duration_s in works:
        worker.work(duration_s)

    assert worker.rests == []


def test_the_writer_rests_beside_searches_and_only_then(tmp_path: Path) -> None:
    """With a thread that searches all the time, and appends one after the other."""
    appended = Experience(confidence=0.5, visual=VECTORS[0].tobytes())
    over = threading.Event()
    with ExperienceBuffer.open(tmp_path, SETTINGS) as buffer:
        for _ in range(100):
            buffer.append([appended])
        assert buffer.writer.rested_s == 0.0

        def search() -> None:
            while not over.is_set():
                buffer.search(VECTORS, 5)

        searching = threading.Thread(target=search)
        searching.start()
        count = 0
        while not buffer.writer.rested_s and count < APPENDS_MAX:
            buffer.append([appended])
            count += 1
        over.set()
        searching.join()

        assert buffer.writer.rested_s > 0.0


def test_a_search_is_known_while_it_is_under_way_and_from_its_end_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that fails."""
    begun, go_on = threading.Event(), threading.Event()

    def failing(_view: View, _queries: Vectors, _k: int, _effort: object) -> Found:
        begun.set()
        assert go_on.wait(10)
        raise ValueError("a fault")

    with ExperienceBuffer.open(tmp_path, SETTINGS) as buffer:
        searcher = buffer._searcher
        assert not searcher.searched_since(time.perf_counter())
        monkeypatch.setattr(View, "search", failing)
        errors: list[BaseException] = []

        def search() -> None:
            try:
                buffer.search(np.ascontiguousarray(VECTORS[:1]), 1)
            except ValueError as error:
                errors.append(error)

        searching = threading.Thread(target=search)
        searching.start()
        assert begun.wait(10)
        meanwhile = time.perf_counter()
        assert searcher.searched_since(meanwhile)
        go_on.set()
        searching.join()

        assert [str(error) for error in errors] == ["a fault"]
        assert searcher.searched_since(meanwhile)
        assert not searcher.searched_since(time.perf_counter())
