"""What the writer tells others of its work."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.precedence import Precedence
from buffer_service.settings import EmbeddingSettings, RebuildSettings, ServerSettings, Settings
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until

VECTORS = unit_vectors(8, 4)


def test_the_writer_is_busy_from_when_work_is_put_until_it_is_done(tmp_path: Path) -> None:
    """Searches then leave it a core; what waits behind it counts."""
    settings = Settings(embedding=EmbeddingSettings(dimension=4), rebuild=RebuildSettings(mode="off"))
    begun, go_on = threading.Event(), threading.Event()

    def held() -> None:
        begun.set()
        assert go_on.wait(10)

    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        wait_until(lambda: not buffer.writer.busy, "the writer rests")
        working = buffer.writer.between_groups(held)
        assert buffer.writer.busy
        assert begun.wait(10)
        assert buffer.writer.busy
        appended = buffer.append_soon([Experience(confidence=0.5, visual=VECTORS[0].tobytes())])
        go_on.set()
        working.result(10)
        assert appended.result(10).ids == [1]

        wait_until(lambda: not buffer.writer.busy, "the writer rests again")


def test_the_writer_does_not_rest_while_writes_would_soon_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half of the room for those that wait taken, searches do not go first any more."""
    settings = Settings(
        embedding=EmbeddingSettings(dimension=4),
        rebuild=RebuildSettings(mode="off"),
        server=ServerSettings(pending_writes_max=4),
    )
    waiting: list[int] = []
    monkeypatch.setattr(Precedence, "give", lambda _: waiting.append(buffer.writer._queue.qsize()))
    begun, go_on = threading.Event(), threading.Event()

    def held() -> None:
        begun.set()
        assert go_on.wait(10)

    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        buffer.writer.between_groups(held)
        assert begun.wait(10)
        waiting.clear()
        appended = [buffer.append_soon([Experience(confidence=0.5, visual=VECTORS[0].tobytes())]) for _ in range(2)]
        go_on.set()
        assert [future.result(10).ids for future in appended] == [[1], [2]]
        wait_until(lambda: bool(waiting), "the writer may rest after both")

    assert set(waiting) == {0}
