"""A real file system that is shut down without flushing anything, under a process that commits."""

from __future__ import annotations

import os
import shutil
import signal
from itertools import islice
from pathlib import Path

import pytest

from tests.helpers.mounting import cut_power, ext4_disk
from tests.helpers.storage_open import BACKENDS
from tests.helpers.storage_process import check_after_power_loss, rest_of, start_writer

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mkfs.ext4") is None, reason="needs root and mkfs.ext4"),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("commits", [3, 120])
def test_a_power_loss_loses_nothing_acknowledged(backend: str, commits: int, tmp_path: Path) -> None:
    """After the journal is replayed, every acknowledged group is there."""
    image, folder = tmp_path / "disk", tmp_path / "mount"
    with ext4_disk(folder, image):
        writer = start_writer(backend, folder / "store", commits)
        assert writer.stdout is not None
        lines = list(islice(writer.stdout, commits))
        cut_power(folder)
        writer.send_signal(signal.SIGKILL)
        rest, _ = rest_of(writer)
    with ext4_disk(folder, image):
        before = [line.strip() for line in lines]
        check_after_power_loss(backend, folder / "store", commits, before, rest.split("\n")[:-1])
