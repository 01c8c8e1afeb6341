"""The epoch: how many processes have taken over a store, so that one that was superseded can tell.

The writer lock keeps a second process of this machine out; it does not reach a process that was paused on another node
while its volume went on. So whoever opens a store first claims the next epoch, durably and before it reads anything
else, and every commit checks its own. The file has two slots that are written in turn and in place: a torn write leaves
the other slot, and a full disk does not stand in the way.
"""

from __future__ import annotations

import struct
from pathlib import Path

import google_crc32c

from buffer_service.errors import CorruptStoreError, SupersededError
from buffer_service.storage.fs import File, FileSystem, write_durably

EPOCH_FILE = "epoch"

_SLOT = struct.Struct("<QI")
_SLOT_DISTANCE = 512
"""One slot to a sector, so that writing one cannot touch the other."""
_SIZE_BYTES = _SLOT_DISTANCE + _SLOT.size


class Epoch:
    """The claim of this process. Claimed on the thread that opens the store, checked on the writer thread."""

    def __init__(self, system: FileSystem, folder: Path) -> None:
        """Claim the next epoch. Raises CorruptStoreError when no slot can be read, or the claim cannot be written."""
        self._path = folder / EPOCH_FILE
        self.number = 0
        self._confirmed = b""
        """The content when this process's epoch was the newest."""
        try:
            if EPOCH_FILE not in system.names(folder):
                write_durably(system, self._path, [_slot(0).ljust(_SLOT_DISTANCE, b"\0"), _slot(0)])
            self._file: File = system.open(self._path)
            found = self._newest(self._file.read_at(_SIZE_BYTES, 0))
            self._read = self._file.watch(_SIZE_BYTES)
            self.claim(found + 1)
        except OSError as error:
            raise CorruptStoreError(f"{self._path}: {error}") from error

    def claim(self, number: int) -> None:
        """Claim this epoch, durable on return."""
        self._file.write_at(_slot(number), number % 2 * _SLOT_DISTANCE)
        self._file.sync()
        self.number = number

    def check(self) -> None:
        """Raise SupersededError when another process has claimed the store since."""
        data = self._read()
        if data == self._confirmed:
            return
        newest = self._newest(data)
        if newest != self.number:
            raise SupersededError(
                f"{self._path}: another process has taken over this store (epoch {newest}, this one has "
                f"{self.number}); stop this process"
            )
        self._confirmed = data

    def _newest(self, data: bytes) -> int:
        found = [number for at in (0, _SLOT_DISTANCE) if (number := _number(data[at : at + _SLOT.size])) is not None]
        if not found:
            raise CorruptStoreError(
                f"{self._path}: no slot of it can be read; make sure that no other process uses this store, then "
                "remove the file"
            )
        return max(found)


def _slot(number: int) -> bytes:
    return _SLOT.pack(number, google_crc32c.value(number.to_bytes(8, "little")))


def _number(slot: bytes) -> int | None:
    if len(slot) < _SLOT.size:
        return None
    number, crc = _SLOT.unpack(slot)
    return int(number) if google_crc32c.value(slot[:8]) == crc else None
