"""Checks of an LMDB file before LMDB maps it: reading beyond the end of a truncated file kills the process with SIGBUS.

Only to be used while no environment of this process has the file open, because closing a file drops the process's
locks on it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from buffer_service.errors import CorruptStoreError

DATA_FILE = "data.mdb"

_MAGIC = 0xBEEFC0DE
_PAGE_HEADER_BYTES = 16
# Magic, version, map address, map size, two trees of 48 bytes (the page size is the first field of the first one), last
# page, transaction.
_META = struct.Struct("<IIQQI44x48xQQ")
_PAGE_BYTES_LARGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Meta:
    """What one meta page says."""

    map_size_bytes: int
    page_bytes: int
    last_page: int
    transaction: int


def require_whole(folder: Path) -> int:
    """Return the map size that the file was made with, 0 for a new store; raises CorruptStoreError."""
    path = folder / DATA_FILE
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with path.open("rb") as file:
        head = file.read(2 * _PAGE_BYTES_LARGEST)
    first = _meta(head, 0)
    if first is None:
        raise CorruptStoreError(f"{path}, offset 0: not an LMDB meta page; restore a backup")
    second = _meta(head, first.page_bytes)
    if second is None:
        raise CorruptStoreError(f"{path}, offset {first.page_bytes}: not an LMDB meta page; restore a backup")
    newest = max(first, second, key=lambda meta: meta.transaction)
    size = path.stat().st_size
    needed = (newest.last_page + 1) * newest.page_bytes
    if size < needed:
        raise CorruptStoreError(
            f"{path}, offset {size}: the file ends here, {needed} bytes are needed; restore a backup"
        )
    return newest.map_size_bytes


def _meta(head: bytes, page_start: int) -> Meta | None:
    start = page_start + _PAGE_HEADER_BYTES
    if len(head) < start + _META.size:
        return None
    magic, _, _, map_size_bytes, page_bytes, last_page, transaction = _META.unpack_from(head, start)
    if magic != _MAGIC or not 0 < page_bytes <= _PAGE_BYTES_LARGEST:
        return None
    return Meta(map_size_bytes, page_bytes, last_page, transaction)
