"""A buffer bounded in bytes: what leaves, and that the bound holds in the store itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.settings import (
    BufferSettings,
    EmbeddingSettings,
    IndexSettings,
    PersistenceSettings,
    RebuildSettings,
    Settings,
)
from tests.helpers.storage_open import BACKENDS
from tests.helpers.vectors import unit_vectors

LIMIT_BYTES = 1 << 20
LONG_BYTES = 20_000
VECTORS = unit_vectors(400, 4)


def _open(folder: Path, backend: str, capacity_bytes: int | None = LIMIT_BYTES) -> ExperienceBuffer:
    settings = Settings(
        buffer=BufferSettings(capacity_bytes=capacity_bytes),
        embedding=EmbeddingSettings(dimension=4),
        rebuild=RebuildSettings(mode="off"),
        index=IndexSettings(faiss_backend="cpu"),
        persistence=PersistenceSettings.model_validate({"backend": backend}),
    )
    return ExperienceBuffer.open(folder, settings)


def _experience(row: int, size_bytes: int) -> Experience:
    return Experience(confidence=0.5, visual=VECTORS[row].tobytes(), metadata={"filler": "x" * size_bytes})


def _live(buffer: ExperienceBuffer) -> list[int]:
    return buffer.store.table.live_ids().tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_oldest_leave_so_that_what_is_live_stays_within_the_bytes(tmp_path: Path, backend: str) -> None:
    """Four times what fits is appended; the newest are there, without a gap, and found."""
    with _open(tmp_path, backend) as buffer:
        for row in range(200):
            newest = buffer.append([_experience(row, LONG_BYTES)]).ids[0]
            live = _live(buffer)
            assert live == list(range(live[0], newest + 1))
        assert 0.5 * LIMIT_BYTES < buffer.store.live_bytes() <= LIMIT_BYTES + LONG_BYTES
        assert len(live) < 60
        found = buffer.search(VECTORS[199:200], 1)
        assert found.ids[0, 0] == newest


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_group_larger_than_the_bytes_keeps_its_newest(tmp_path: Path, backend: str) -> None:
    """What does not fit leaves in the very group that appends it."""
    with _open(tmp_path, backend) as buffer:
        ids = buffer.append([_experience(row, LONG_BYTES) for row in range(100)]).ids
        live = _live(buffer)
        assert live == ids[-len(live) :]
        assert 0 < len(live) * LONG_BYTES <= LIMIT_BYTES


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_experience_stays_even_if_it_is_larger_than_the_bytes(tmp_path: Path, backend: str) -> None:
    """An append that was taken is never evicted by itself."""
    with _open(tmp_path, backend) as buffer:
        buffer.append([_experience(0, 10)])
        wide = Experience(confidence=0.5, visual=VECTORS[1].tobytes(), trajectory=["x" * 900_000])
        buffer.append([wide])
        last = buffer.append([wide]).ids
        assert _live(buffer) == last


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lower_bound_takes_effect_with_the_next_append_after_a_restart(tmp_path: Path, backend: str) -> None:
    """Nothing is evicted by starting; the first append makes room for what is now too much."""
    with _open(tmp_path, backend, None) as buffer:
        buffer.append([_experience(row, LONG_BYTES) for row in range(150)])
    with _open(tmp_path, backend) as buffer:
        assert len(_live(buffer)) == 150
        buffer.append([_experience(150, LONG_BYTES)])
        assert buffer.store.live_bytes() <= LIMIT_BYTES + LONG_BYTES
        assert np.all(np.diff(_live(buffer)) == 1)
