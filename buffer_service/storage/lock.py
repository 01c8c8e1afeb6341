"""The writer lock: one process at a time has a store open.

``flock`` on a file of its own: it holds across PID namespaces of one kernel, which LMDB's own locks do not, and the
kernel frees it when the holder dies. It does not reach other machines. The descriptor is closed by ``release`` or
with the process.
"""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from buffer_service.errors import StoreLockedError

LOCK_FILE = "writer.lock"


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock, as it says itself; the pid is the one in its own PID namespace."""

    pid: int
    host: str
    since: str
    """UTC, ISO 8601."""


@dataclass(slots=True)
class WriterLock:
    """A held lock."""

    _descriptor: int

    @classmethod
    def acquire(cls, folder: Path) -> WriterLock:
        """Take the lock of the store in ``folder`` without waiting; raises StoreLockedError, which names the holder."""
        path = folder / LOCK_FILE
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            raise StoreLockedError(
                f"{folder} is in use by {_describe(holder)}; stop it, or choose another folder"
            ) from error
        own = Holder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(own), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Give the lock back; doing it twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _describe(data: bytes) -> str:
    try:
        holder = msgspec.json.decode(data, type=Holder)
    except msgspec.DecodeError:
        return "another process"
    return f"process {holder.pid} on {holder.host} since {holder.since}"
