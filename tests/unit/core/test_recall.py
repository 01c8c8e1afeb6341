"""Recall of live searches: measured by a scan in the background, known per generation, a reason to rebuild."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from buffer_service.contract.pointer import INITIAL
from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.recall import CHECKS_MIN, RecallCheck
from buffer_service.index.delta import Delta
from buffer_service.index.metric import Vectors
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import rebuild
from buffer_service.index.view import Found, View
from buffer_service.settings import BufferSettings, EmbeddingSettings, IndexSettings, RebuildSettings, Settings
from tests.helpers.device import DEVICE
from tests.helpers.generations import request
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until

ROWS = unit_vectors(50, 8)


@pytest.fixture
def check() -> Iterator[RecallCheck]:
    """Checks every search that it is offered while it is idle."""
    made = RecallCheck(1.0)
    yield made
    made.close()


def _view(generation: int = 1) -> View:
    delta = Delta(8, "cosine", 50)
    delta.append(np.arange(1, 51, dtype=np.int64), ROWS)
    return View(1, msgspec.structs.replace(INITIAL, generation=generation), None, delta, 50)


def _offer(check: RecallCheck, view: View, found: Found, times: int) -> None:
    target = check.checked + times

    def checked() -> bool:
        check.offer(view, ROWS[:1], found)
        return check.checked >= target

    wait_until(checked, f"{times} searches are checked", interval_s=0.001)


def test_recall_is_the_share_of_true_neighbours_found(check: RecallCheck) -> None:
    """Half of the ten nearest are half; too few checks say nothing."""
    view = _view()
    true = view.search(ROWS[:1], 10)
    half = Found(true.ids, np.where(np.arange(10) < 5, true.scores, -1.0).astype(np.float32), 1, 1)

    _offer(check, view, half, CHECKS_MIN // 2)
    assert check.recall(1) is None
    _offer(check, view, half, CHECKS_MIN)
    assert check.recall(1) == pytest.approx(0.5)


def test_a_new_generation_starts_anew(check: RecallCheck) -> None:
    """What was known of the one before says nothing of it."""
    first, second = _view(1), _view(2)
    _offer(check, first, first.search(ROWS[:1], 10), CHECKS_MIN)
    assert check.recall(1) == 1.0
    assert check.recall(2) is None

    _offer(check, second, second.search(ROWS[:1], 10), 2)

    assert check.recall(1) is None


def test_a_check_is_given_up_once_another_generation_is_served(check: RecallCheck) -> None:
    """It would keep the old one in memory; the next is checked."""
    first, second = _view(1), _view(2)
    scanned, go_on = threading.Event(), threading.Event()

    class Held(View):
        """A view whose scan does not end before it may."""

        def exact(self, queries: Vectors, k: int, between: Callable[[], object] = lambda: None) -> Found:
            scanned.set()
            assert go_on.wait(10)
            between()
            return super().exact(queries, k, between)

    held = Held(first.sequence, first.pointer, first.main, first.delta, first.delta_rows)
    check.offer(held, ROWS[:1], first.search(ROWS[:1], 10))
    assert scanned.wait(10)
    check.offer(second, ROWS[:1], second.search(ROWS[:1], 10))
    go_on.set()
    _offer(check, second, second.search(ROWS[:1], 10), CHECKS_MIN)

    assert check.recall(1) is None
    assert check.recall(2) == 1.0


def test_no_share_means_no_checks() -> None:
    """And no thread that would have to be ended."""
    check = RecallCheck(0.0)
    view = _view()
    check.offer(view, ROWS[:1], view.search(ROWS[:1], 10))
    check.close()

    assert check.checked == 0


def test_the_scan_is_exact_over_main_and_delta_without_the_dead(tmp_path: Path) -> None:
    """It is what recall is measured by."""
    settings = Settings(
        buffer=BufferSettings(capacity=1000),
        embedding=EmbeddingSettings(dimension=8),
        index=IndexSettings(faiss_backend=DEVICE),
        rebuild=RebuildSettings(mode="off"),
    )
    rows = unit_vectors(600, 8)
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        buffer.follower.close()
        buffer.append([Experience(visual=row.tobytes(), confidence=0.5) for row in rows[:500]])
        buffer.export()
        rebuild(request(tmp_path, 1, index_type="ivf"), FolderPointer(tmp_path / "pointer"))
        buffer.follower.follow()
        buffer.append([Experience(visual=row.tobytes(), confidence=0.5) for row in rows[500:]])
        for dead in (1, 2, 3, 501, 502):
            buffer.remove(dead)
        found = buffer.serving.view.exact(rows[:40], 10)

    scores = rows[:40] @ rows.T
    scores[:, [0, 1, 2, 500, 501]] = -np.inf
    np.testing.assert_array_equal(found.ids, np.argsort(-scores, axis=1)[:, :10] + 1)


def _due(buffer: ExperienceBuffer) -> str:
    return buffer.rebuilder._due()


def test_each_reason_to_rebuild_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations, rows that have left, recall below the floor, age: and nothing where nothing has changed."""
    settings = Settings(
        buffer=BufferSettings(capacity=10_000),
        embedding=EmbeddingSettings(dimension=8),
        index=IndexSettings(faiss_backend=DEVICE, recall_floor=0.9),
        rebuild=RebuildSettings(mode="off", every_operations=5000, after_s=1000.0),
    )
    rows = unit_vectors(3000, 8)
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        buffer.follower.close()
        buffer.append([Experience(visual=row.tobytes(), confidence=0.5) for row in rows])
        assert _due(buffer) == ""
        buffer.export()
        rebuild(request(tmp_path, 1, index_type="ivf"), FolderPointer(tmp_path / "pointer"))
        buffer.follower.follow()
        monkeypatch.setattr(buffer.recall_check, "recall", lambda _: 0.8)
        assert _due(buffer) == ""  # building the same again would not help

        buffer.append([Experience(visual=rows[0].tobytes(), confidence=0.5)])
        assert "0.800, the floor 0.9" in _due(buffer)
        monkeypatch.setattr(buffer.recall_check, "recall", lambda _: None)
        assert _due(buffer) == ""
        monkeypatch.setattr("buffer_service.core.rebuilder.time.time", lambda: 1e10)
        assert "s old" in _due(buffer)
        for experience in range(1, 1001):
            buffer.remove(experience)
        assert _due(buffer) == "1000 of 3000 rows have left"
        for experience in range(1001, 3001):
            buffer.remove(experience)
        buffer.append([Experience(visual=row.tobytes(), confidence=0.5) for row in rows])
        assert _due(buffer) == "6001 operations since the watermark"
