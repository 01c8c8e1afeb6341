"""What a power loss would leave at each moment, written out beside what a process had acknowledged by then."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.simulated_fs import FOLDER, SimulatedFileSystem

_ACKNOWLEDGED = "acknowledged"
_DISK = "disk"


@dataclass(frozen=True, slots=True)
class Survivor:
    """One moment."""

    disk: Path
    """Folder with the files that are left."""
    lines: list[str]
    """What the process had printed."""


def survivors_in(folder: Path) -> list[Survivor]:
    """Return the moments in order."""
    moments = sorted(folder.iterdir())
    return [Survivor(moment / _DISK, (moment / _ACKNOWLEDGED).read_text().split("\n")[:-1]) for moment in moments]


class Survivors:
    """Writes out what a power loss would leave, and what was acknowledged by then."""

    def __init__(self, system: SimulatedFileSystem, folder: Path, pipe: int | None, every: int) -> None:
        self._system = system
        self._folder = folder
        self._pipe = pipe
        self._every = every
        self._acknowledged = b""
        self._points = 0
        if pipe is not None:
            os.set_blocking(pipe, False)

    def before_step(self, _kind: str, _path: Path) -> None:
        """Called before every operation that changes something."""
        if self._points % self._every == 0:
            self.write()
        self._points += 1

    def write(self) -> None:
        """Write out one survivor; what it is follows from the number of operations before."""
        self._read_pipe()
        there = self._folder / f"{self._points:05d}"
        disk = there / _DISK
        disk.mkdir(parents=True, exist_ok=True)
        (there / _ACKNOWLEDGED).write_bytes(self._acknowledged)
        for path, inode in self._system.after_power_loss(self._points).files.items():
            place = disk / path.relative_to(FOLDER)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(inode.content)

    def _read_pipe(self) -> None:
        while self._pipe is not None:
            try:
                read = os.read(self._pipe, 1 << 16)
            except BlockingIOError:
                return
            if not read:
                self._pipe = None
            self._acknowledged += read
