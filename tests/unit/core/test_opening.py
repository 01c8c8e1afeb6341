"""Opening a buffer that holds something: it answers before all of its index is in its final form."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from buffer_service.core import Experience, ExperienceBuffer, follower
from buffer_service.errors import BacklogError
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import rebuild
from buffer_service.settings import EmbeddingSettings, IndexSettings, RebuildSettings, Settings
from tests.helpers.generations import request
from tests.helpers.vectors import Vectors, unit_vectors
from tests.helpers.waiting import wait_until

SETTINGS = Settings(
    embedding=EmbeddingSettings(dimension=8),
    rebuild=RebuildSettings(mode="off"),
    index=IndexSettings(faiss_backend="cpu"),
)
BUILT = 400
ROWS = unit_vectors(BUILT + 120, 8)
FRESH, LATER = ROWS[BUILT : BUILT + 60], ROWS[BUILT + 60 :]
FRESH_IDS = list(range(BUILT + 1, BUILT + 61))


def append(buffer: ExperienceBuffer, rows: Vectors) -> list[int]:
    """Append rows and return their ids."""
    return buffer.append([Experience(confidence=0.5, visual=row.tobytes()) for row in rows]).ids


def nearest(buffer: ExperienceBuffer, rows: Vectors) -> list[int]:
    """Return the nearest experience to each row."""
    return [int(experience) for experience in buffer.search(rows, k=1).ids[:, 0]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A buffer with an index of the first rows; the next ones came after it."""
    with ExperienceBuffer.open(tmp_path, SETTINGS) as buffer:
        append(buffer, ROWS[:BUILT])
        buffer.export()
        rebuild(request(tmp_path, 1, index_type="ivf"), FolderPointer(tmp_path / "pointer"))
        wait_until(lambda: buffer.serving.view.main is not None, "the generation is served")
        append(buffer, FRESH)
    return tmp_path


def test_rows_above_the_index_are_found_before_they_are_filed_and_afterwards(folder: Path) -> None:
    """A start scans them, files them under the index's centroids beside its first answers, and goes over to those."""
    with ExperienceBuffer.open(folder, SETTINGS) as buffer:
        assert nearest(buffer, FRESH) == FRESH_IDS
        wait_until(lambda: buffer.serving.view.delta.lists is not None, "the delta is filed")
        later = append(buffer, LATER)
        assert nearest(buffer, ROWS[BUILT:]) == FRESH_IDS + later


def test_what_comes_and_leaves_while_the_delta_is_being_filed_is_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are appended after the filing began are filed with it; those removed stay hidden."""
    monkeypatch.setattr(follower, "POLL_INTERVAL_S", 3600.0)
    with ExperienceBuffer.open(folder, SETTINGS) as buffer:
        later: list[int] = []

        def between_groups(call: Callable[[], None]) -> Future[None]:
            later.extend(append(buffer, LATER))
            buffer.remove(FRESH_IDS[0])
            return buffer.writer.between_groups(call)

        buffer.serving.file_delta(between_groups)

        assert buffer.serving.view.delta.lists is not None
        found = nearest(buffer, ROWS[BUILT:])
        assert found[1:] == FRESH_IDS[1:] + later
        assert found[0] != FRESH_IDS[0]


def test_the_delta_does_not_grow_with_every_start(tmp_path: Path) -> None:
    """However often a buffer is started, no more rows wait for a generation than the settings allow."""
    settings = SETTINGS.model_copy(update={"index": IndexSettings(faiss_backend="cpu", delta_rows_max=100)})
    for rows in np.split(ROWS[:100], 4):
        with ExperienceBuffer.open(tmp_path, settings) as buffer:
            append(buffer, rows)
    with ExperienceBuffer.open(tmp_path, settings) as buffer, pytest.raises(BacklogError):
        append(buffer, ROWS[100:101])
