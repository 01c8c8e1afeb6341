"""Disk space for LMDB's file, taken before a commit needs it. Writer thread only.

LMDB reports a write that found room for a part of it as an I/O error, which cannot be told from a broken disk. So the
space is allocated ahead, where a full disk says so plainly; and a sync then has no new size of the file to record.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from buffer_service.errors import StorageFullError
from buffer_service.storage.fs import FULL_ERRNOS
from buffer_service.storage.group import Group

_PAGE_BYTES = 4096
_AHEAD_BYTES = 4 << 20
_RESERVE_BYTES = 256 << 10
"""What appends leave to those who free space."""
_BYTES_PER_APPEND = 3 * _PAGE_BYTES
_BYTES_PER_CHANGE = _PAGE_BYTES


class Room:
    """Follows how far the file is allocated; never beyond the map."""

    def __init__(self, path: Path, map_size_bytes: int) -> None:
        self._map_size_bytes = map_size_bytes
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._allocated_bytes = 0

    def require(self, group: Group, last_page: int) -> None:
        """Allocate what the group may add behind the last page in use; raises StorageFullError before an append."""
        needed_bytes = (last_page + 1) * _PAGE_BYTES + _RESERVE_BYTES
        for append in group.appended.values():
            needed_bytes += _BYTES_PER_APPEND + len(append.vector) + len(append.payload)
        needed_bytes = min(self._map_size_bytes, needed_bytes + _BYTES_PER_CHANGE * len(group.dropped))
        if needed_bytes <= self._allocated_bytes:
            return
        for size_bytes in (min(self._map_size_bytes, needed_bytes + _AHEAD_BYTES), needed_bytes):
            try:
                os.posix_fallocate(self._descriptor, 0, size_bytes)
            except OSError as error:
                if error.errno not in FULL_ERRNOS:
                    raise
            else:
                self._allocated_bytes = size_bytes
                return
        if group.appended:
            raise StorageFullError("The disk is full; free space on the volume of the store")
