"""Where the pointer lives: a folder (locally; in pods a mounted ConfigMap), or a ConfigMap reached through its API."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from buffer_service.contract.names import POINTER_KEY
from buffer_service.contract.pointer import INITIAL, Pointer, decode_pointer, encode_pointer
from buffer_service.index.errors import PointerConflictError
from buffer_service.index.files import write_atomically


class PointerStore(Protocol):
    """A place that holds one pointer and moves it by compare-and-swap."""

    def read(self) -> Pointer:
        """Return the pointer, INITIAL where there is none yet. Raises InvalidPointerError when it is damaged."""
        ...

    def swap(self, expected: Pointer, replacement: Pointer) -> None:
        """Move the pointer if it still is ``expected``; durable on return. Raises PointerConflictError if it is not."""
        ...


class FolderPointer:
    """A pointer in a folder. Reading also works on a mounted ConfigMap, which is switched by the kubelet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Pointer:
        """See PointerStore."""
        try:
            return decode_pointer((self._folder / POINTER_KEY).read_bytes())
        except FileNotFoundError:
            return INITIAL

    def swap(self, expected: Pointer, replacement: Pointer) -> None:
        """See PointerStore."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            found = self.read()
            if found != expected:
                raise PointerConflictError(f"the pointer is at revision {found.revision}, not {expected.revision}")
            write_atomically(self._folder / POINTER_KEY, encode_pointer(replacement).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
