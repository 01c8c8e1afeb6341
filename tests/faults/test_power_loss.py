"""A real file system that is shut down without flushing anything, under a process that commits."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from tests.helpers.storage_open import BACKENDS
from tests.helpers.storage_process import check_left_behind, start_writer

FS_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING = struct.pack("I", 2)
IMAGE_BYTES = 64 << 20

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mkfs.ext4") is None, reason="needs root and mkfs.ext4"),
]


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[None]:
    """Mount the image; skips the test where the machine has no loop devices."""
    attempt = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True, check=False)
    if attempt.returncode != 0:
        pytest.skip(f"no loop device: {attempt.stderr}")
    try:
        yield
    finally:
        # A failed test may still have files open.
        if subprocess.run(["umount", folder], check=False).returncode != 0:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("commits", [3, 120])
def test_a_power_loss_loses_nothing_acknowledged(backend: str, commits: int, tmp_path: Path) -> None:
    """After the journal is replayed, every acknowledged group is there."""
    image, folder = tmp_path / "disk", tmp_path / "mount"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with mounted(image, folder):
        writer = start_writer(backend, folder / "store", commits)
        assert writer.stdout is not None
        lines = list(islice(writer.stdout, commits))
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, WITHOUT_FLUSHING)
        os.close(descriptor)
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
    with mounted(image, folder):
        check_left_behind(backend, folder / "store", commits, "".join([*lines, rest]).split("\n")[:-1])
