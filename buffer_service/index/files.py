"""Writing files so that they are either wholly there or not there at all, also after a power cut."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import faiss

_BLOCK_BYTES = 1 << 20


def sync_file(path: Path) -> None:
    """Flush a file's content to stable storage."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries (names, renames, removals) to stable storage."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file's content in one step; durable on return. After an error it is as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sha256_of(path: Path, between: Callable[[], object] = lambda: None) -> str:
    """Return the hex SHA-256 of a file's content; ``between`` is called after each block, of half a millisecond."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            between()
    return digest.hexdigest()


class Spread:
    """Writes a file so that it goes to disk as it is written, a block at a time.

    A log on the same disk would have to wait for all of it at once otherwise.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting_bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it; returns its size in bytes."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _BLOCK_BYTES):
            self._waiting_bytes += self._file.write(view[start : start + _BLOCK_BYTES])
            if self._waiting_bytes >= _BLOCK_BYTES:
                self._file.flush()
                os.fdatasync(self._file.fileno())
                self._waiting_bytes = 0
        return len(view)


def write_index(index: Any, path: Path) -> None:  # noqa: ANN401 - FAISS has no types
    """Write an index of FAISS; raises OSError.

    FAISS itself turns a full disk into a RuntimeError, and says nothing when what it has buffered cannot be written.
    """
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(Spread(file).write))
