"""Memory that was freed goes back to the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from buffer_service.core import Experience, ExperienceBuffer, follower
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import rebuild
from buffer_service.observability.process import give_back_memory
from buffer_service.settings import EmbeddingSettings, IndexSettings, RebuildSettings, Settings
from tests.helpers.generations import request
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until

PIECE_BYTES = 100_000
"""Too small to be a mapping of its own, which would go back at once."""


def _private_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def test_what_was_freed_between_pieces_in_use_is_given_back() -> None:
    """The C library keeps it otherwise, for it gives back the end of its heap alone."""
    pieces = [b"x" * PIECE_BYTES for _ in range(1000)]
    last = b"x" * PIECE_BYTES
    del pieces
    before = _private_bytes()
    give_back_memory()

    assert before - _private_bytes() > 500 * PIECE_BYTES
    assert len(last) == PIECE_BYTES


def _rebuild(folder: Path, buffer: ExperienceBuffer, generation: int) -> None:
    buffer.export()
    rebuild(request(folder, generation), FolderPointer(folder / "pointer"))


def test_memory_is_given_back_after_each_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the new generation is served, and only then."""
    served: list[int] = []
    settings = Settings(
        embedding=EmbeddingSettings(dimension=8),
        rebuild=RebuildSettings(mode="off"),
        index=IndexSettings(faiss_backend="cpu"),
    )
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        monkeypatch.setattr(follower, "give_back_memory", lambda: served.append(buffer.serving.view.pointer.generation))
        buffer.append([Experience(confidence=0.5, visual=row.tobytes()) for row in unit_vectors(100, 8)])
        _rebuild(tmp_path, buffer, 1)
        wait_until(lambda: served == [1], "memory is given back")
        _rebuild(tmp_path, buffer, 2)
        wait_until(lambda: served == [1, 2], "memory is given back again")
