"""What kind of file system a folder is on: LMDB must not live on a remote one, where its locks and map do not hold."""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path

from buffer_service.errors import IncompatibleStoreError

_REMOTE = {
    0x6969: "NFS",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x517B: "SMB",
    0x01021997: "9p",
    0x5346414F: "AFS",
    0x00C36400: "Ceph",
}
_SHORT_LIVED = {0x01021994: "tmpfs", 0x794C7630: "overlayfs"}

_logger = logging.getLogger(__name__)


def require_local(folder: Path) -> None:
    """Raise IncompatibleStoreError on a remote file system; warn on one that may not outlive the machine."""
    kind = _magic(folder)
    if kind in _REMOTE:
        raise IncompatibleStoreError(
            f"{folder} is on {_REMOTE[kind]}; LMDB needs a local disk: use a block volume, or persistence.backend=file"
        )
    if kind in _SHORT_LIVED:
        _logger.warning("%s is on %s, which may not outlive this container or machine", folder, _SHORT_LIVED[kind])


def _magic(folder: Path) -> int:
    """Return f_type of statfs(2), which is the first long of its answer on every 64-bit Linux."""
    answer = ctypes.create_string_buffer(512)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(folder), answer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(folder))
    return int.from_bytes(answer.raw[:8], "little") & 0xFFFFFFFF
