"""The rows of an export, written for the index: whole, and without a burst of writing at the end."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from buffer_service.index.rows import Rows
from tests.helpers.vectors import unit_vectors


def test_what_was_written_goes_to_disk_as_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An append that is synced meanwhile waits for a part of the file, never for all of it."""
    vectors, ids = unit_vectors(20_000, 64), np.arange(1, 20_001, dtype=np.int64)
    rows = Rows([(ids, vectors)], ids[::2], 64)
    sizes: list[int] = []
    synced = os.fdatasync

    def watched(descriptor: int) -> None:
        synced(descriptor)
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fdatasync", watched)
    written = rows.write(tmp_path / "vectors.npy")

    assert np.array_equal(written, vectors[::2])
    steps = np.diff([0, *sizes, (tmp_path / "vectors.npy").stat().st_size])
    assert len(sizes) >= 2
    assert steps.max() <= 2 << 20
