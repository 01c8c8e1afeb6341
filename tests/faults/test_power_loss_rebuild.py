"""The power fails while a generation is built and published, on a real file system: what is pointed to is whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from buffer_service.index import files
from buffer_service.index.engine import Engine
from buffer_service.index.generations import load
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import rebuild
from tests.helpers.generations import build, request
from tests.helpers.mounting import cut_power, ext4_disk
from tests.helpers.vectors import unit_vectors

ROWS = dict(enumerate(unit_vectors(300, 8), start=1))
SYNCS = 14
"""More than a rebuild makes."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mkfs.ext4") is None, reason="needs root and mkfs.ext4"),
]


def rebuild_until_power_loss(folder: Path, power_off_at: int, patch: pytest.MonkeyPatch) -> None:
    """Build the second generation; the power is lost before the given sync, or after all of it."""
    real_sync, syncs = os.fsync, 0

    def sync(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        if syncs == power_off_at:
            cut_power(folder)
        real_sync(descriptor)

    patch.setattr(files.os, "fsync", sync)
    try:
        rebuild(request(folder, 2), FolderPointer(folder / "pointer"))
    except OSError:
        assert syncs >= power_off_at
    else:
        cut_power(folder)


def test_a_power_loss_during_a_rebuild_leaves_the_old_generation_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any of its syncs, and after the last: the pointer names a generation that passes every check."""
    found = []
    for power_off_at in range(1, SYNCS):
        image, folder = tmp_path / f"image-{power_off_at}", tmp_path / f"disk-{power_off_at}"
        with ext4_disk(folder, image), monkeypatch.context() as patch:
            build(folder, ROWS, 1, 300)
            os.sync()
            rebuild_until_power_loss(folder, power_off_at, patch)
        with ext4_disk(folder, image):
            pointer = FolderPointer(folder / "pointer").read()
            load(Engine("cpu"), folder / "indexes", pointer, 8, "cosine")
            found.append(pointer.generation)
    assert found == sorted(found)
    assert set(found) == {1, 2}
