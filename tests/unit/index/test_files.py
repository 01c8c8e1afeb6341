"""Files of an index are written and read in pieces."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import faiss
import numpy as np
import pytest

from buffer_service.index.files import sha256_of, write_index
from tests.helpers.vectors import unit_vectors

STEP_BYTES_MAX = 2 << 20


def test_an_index_goes_to_disk_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of it FAISS hands over at once: an append that is synced meanwhile waits for a part."""
    index, sizes, synced = faiss.IndexFlatIP(64), list[int](), os.fdatasync
    index.add(unit_vectors(20_000, 64))

    def watched(descriptor: int) -> None:
        synced(descriptor)
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fdatasync", watched)
    path = tmp_path / "index"
    write_index(index, path)

    assert np.diff([0, *sizes, path.stat().st_size]).max() <= STEP_BYTES_MAX
    assert np.array_equal(faiss.read_index(str(path)).reconstruct_n(), index.reconstruct_n())


def test_a_checksum_is_that_of_the_whole_file_whoever_works_in_between(tmp_path: Path) -> None:
    """There is a pause after each block."""
    content = os.urandom(5 << 19)
    path, pauses = tmp_path / "file", list[int]()
    path.write_bytes(content)

    assert sha256_of(path, lambda: pauses.append(1)) == hashlib.sha256(content).hexdigest()
    assert len(pauses) >= 2
