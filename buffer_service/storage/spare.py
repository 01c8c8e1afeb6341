"""The next segment of the log, its space written ahead.

A sync of bytes that replace others makes these durable and nothing else. Behind the end of a file it also records the
new size and the blocks that were taken, in the journal of the file system, which takes about as long again. So while a
log is written to, a background thread fills a file with zeroes, which becomes the next segment once it is whole.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Executor, Future
from pathlib import Path

from buffer_service.rests import Rests
from buffer_service.storage.fs import FULL_ERRNOS, TEMPORARY_SUFFIX, File, FileSystem, remove_unfinished

_PART_BYTES = 1 << 20
"""Synced at a time, so that no commit waits behind more than that."""
_REST = 2
"""Times as long as a part took that it rests after it."""
_ROOM = 8
"""Times its size that have to be free on the disk; what is left on a fuller one is for others."""

_logger = logging.getLogger(__name__)


class Spare:
    """A file of zeroes beside the segments. On the writer thread, but for the filling."""

    def __init__(self, system: FileSystem, folder: Path, size_bytes: int, epoch: int, background: Executor) -> None:
        self.size_bytes = size_bytes
        self._system = system
        self._path = folder / f"spare.{epoch}{TEMPORARY_SUFFIX}"
        self._background = background
        self._filling: Future[File | None] | None = None
        self._unwanted = False

    @property
    def is_ready(self) -> bool:
        """Whether it is whole and durable."""
        return self._filling is not None and self._filling.done() and self._filling.result() is not None

    @property
    def held_bytes(self) -> int:
        """Bytes of the disk that it takes up."""
        return self.size_bytes if self.is_ready else 0

    def prepare(self) -> None:
        """Have it filled, unless that was begun since the last segment was."""
        if self._filling is None:
            self._unwanted = False
            self._filling = self._background.submit(self._fill)

    def become(self, path: Path, content: bytes) -> bool:
        """Give it this name, which is durable once the folder is synced, with this content at its start.

        False where it is not ready. Raises FileExistsError where the name is taken, and OSError.
        """
        filling = self._filling
        if filling is None or not filling.done():
            return False
        self._filling = None
        file = filling.result()
        if file is None:
            return False
        try:
            file.write_at(content, 0)
            file.sync()
            self._system.rename_new(self._path, path)
        except FileNotFoundError:  # a process that has taken over removes what it finds unfinished
            return False
        except OSError:
            remove_unfinished(self._system, self._path)
            raise
        return True

    def give_up(self) -> bool:
        """Give its space back to the disk; False where it has none, or is being filled: then that ends soon."""
        self._unwanted = True
        if not self.is_ready:
            return False
        self._filling = None
        remove_unfinished(self._system, self._path)
        return True

    def _fill(self) -> File | None:
        """Fill it, in the background; None where it is unwanted, or the disk is too full or at fault."""
        try:
            if self._unwanted or self._system.free_bytes(self._path.parent) < _ROOM * self.size_bytes:
                return None
            return self._filled()
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                _logger.warning("%s could not be written, the log goes on without: %s", self._path, error)
            remove_unfinished(self._system, self._path)
            return None

    def _filled(self) -> File | None:
        file = self._system.create(self._path)
        zeroes, rest = bytes(_PART_BYTES), Rests(_REST, time.sleep)
        for start in range(0, self.size_bytes, _PART_BYTES):
            if self._unwanted:
                remove_unfinished(self._system, self._path)
                return None
            file.write_at(zeroes[: self.size_bytes - start], start)
            file.sync()
            rest()
        return file
