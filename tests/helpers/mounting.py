"""Small file systems of a test's own, unmounted when the test ends, however it ends. As root."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

IMAGE_BYTES = 64 << 20
_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSHING = struct.pack("I", 2)
"""Request and argument of the ioctl that ext4, xfs and btrfs have for such tests."""


@contextmanager
def mounted(folder: Path, *arguments: str | Path) -> Iterator[Path]:
    """Mount with these arguments of mount(8); skips the test where the machine does not allow it."""
    folder.mkdir(exist_ok=True)
    attempt = subprocess.run(["mount", *arguments, folder], capture_output=True, text=True, check=False)
    if attempt.returncode != 0:
        pytest.skip(f"cannot mount: {attempt.stderr}")
    try:
        yield folder
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    """Unmount, also while a test that failed still has files open."""
    if subprocess.run(["umount", folder], capture_output=True, check=False).returncode != 0:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def memory_disk(folder: Path, size_bytes: int, inodes: int = 0) -> Iterator[Path]:
    """Mount a file system in memory, so small that it can be full; ``inodes`` of 0 means any number of files."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={size_bytes},nr_inodes={inodes}", "tmpfs"):
        yield folder


@contextmanager
def ext4_disk(folder: Path, image: Path, size_bytes: int = IMAGE_BYTES) -> Iterator[Path]:
    """Mount an ext4 file system on a loop device; made anew unless the image is there."""
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(size_bytes)
        # Without blocks kept for root, so that full is full.
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    with mounted(folder, "-o", "loop", image):
        yield folder


def cut_power(folder: Path) -> None:
    """Shut the file system down as it is on the disk now, journal and all; to be mounted again."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_FLUSHING)
    finally:
        os.close(descriptor)


def fill_up(folder: Path) -> Path:
    """Take up every byte that is left, in a file to be removed when space is to return."""
    path = folder / "filler"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        size = 1 << 20
        while size:
            try:
                os.write(descriptor, bytes(size))
            except OSError:
                size //= 2
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path
