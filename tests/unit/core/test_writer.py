"""What the writer tells others of its work."""

from __future__ import annotations

import threading
from pathlib import Path

from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.settings import EmbeddingSettings, RebuildSettings, Settings
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
