"""A file that takes up disk space for the day when the disk is full, so that what frees space can still be committed.

Used on the writer thread. The content does not matter, so nothing here is synced.
"""

from __future__ import annotations

from pathlib import Path

from buffer_service.storage.fs import FileSystem

BALLAST_BYTES = 1 << 20
_RETRY_COMMITS = 64


class Ballast:
    """Reserved space in the folder of a store."""

    def __init__(self, system: FileSystem, folder: Path) -> None:
        self._system = system
        self._path = folder / "ballast"
        self._held = False
        self._commits_to_wait = 0
        self.restore()

    def release(self) -> bool:
        """Give the space back to the disk; False when that was done before."""
        if not self._held:
            return False
        self._held = False
        self._commits_to_wait = _RETRY_COMMITS
        self._system.remove(self._path)
        return True

    def restore(self) -> None:
        """Take the space again if there is any; called after each commit, it tries only now and then."""
        if self._held:
            return
        if self._commits_to_wait > 0:
            self._commits_to_wait -= 1
            return
        try:
            self._system.create(self._path).allocate(BALLAST_BYTES)
        except OSError:
            self._commits_to_wait = _RETRY_COMMITS
            self._system.remove(self._path)
        else:
            self._held = True
