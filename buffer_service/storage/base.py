"""The interface of a durable store.

An adapter promises, whatever happens to process, disk or power:

* a group is wholly there or wholly absent after recovery, and groups are there in order, without gaps;
* when ``commit`` has returned, the group is on stable storage;
* one process at a time has the store open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from buffer_service.errors import IncompatibleStoreError
from buffer_service.storage.group import Group
from buffer_service.storage.rows import Image
from buffer_service.storage.table import Table


@dataclass(frozen=True, slots=True)
class Shape:
    """What a store was made for; a store opened with another shape raises IncompatibleStoreError."""

    dimension: int
    metric: str


def require_shape(path: Path, found: Shape, wanted: Shape) -> None:
    """Raise IncompatibleStoreError, which names both, unless the shapes are the same."""
    if found != wanted:
        raise IncompatibleStoreError(
            f"{path} was made for dimension {found.dimension} and metric {found.metric}, the settings ask for "
            f"dimension {wanted.dimension} and metric {wanted.metric}; change the settings, or use another folder"
        )


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What recovery found, for the log and for ``xbuf verify``."""

    replayed_operations: int
    torn_bytes: int
    """Bytes of an unfinished last group that were cut off and set aside; they were never acknowledged."""
    seconds: float


@dataclass(frozen=True, slots=True)
class BackupFile:
    """One file of a backup."""

    name: str
    """Lower-case letters, digits, hyphens, one dot."""
    size_bytes: int
    parts: Iterator[bytes]
    """The content, read while it is asked for; ``size_bytes`` in all."""


@dataclass(frozen=True, slots=True)
class BackupSource:
    """A store at one moment, to be copied while it goes on. Giving it up releases what it holds."""

    backend: str
    shape: Shape
    sequence: int
    count: int
    """Live experiences."""
    files: Iterator[BackupFile]
    """To be read one after the other, on one thread at a time; raises CorruptStoreError."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a store holds at one sequence number, read while it goes on. Giving it up releases what it holds."""

    shape: Shape
    image: Image
    records: Iterator[tuple[bytes, bytes]]
    """Vector (little-endian float32) and payload of each row of the image, in its order; read while they are asked
    for, on one thread at a time. Raises CorruptStoreError."""


class Store(Protocol):
    """A durable store. ``open`` is a class-level factory of each adapter: it takes the writer lock and recovers.

    ``commit``, ``live_bytes``, ``backup``, ``moment`` and ``close`` are called on the writer thread, ``payloads``,
    ``vectors`` and ``size_bytes`` on any thread.
    """

    @property
    def table(self) -> Table:
        """The recovered state; from then on changed by ``Group.publish`` alone."""
        ...

    @property
    def report(self) -> RecoveryReport:
        """What recovery found."""
        ...

    def commit(self, group: Group) -> None:
        """Make the group durable; called before ``group.publish()``, which the caller does next.

        An empty group only makes sure that no other process has taken over the store. Where one has, it raises
        OutcomeUnknownError, and nothing of this group can come to light in what the other one serves.

        Raises StorageFullError when there is no space (nothing was written, the store stays usable),
        OutcomeUnknownError when durability cannot be confirmed: from then on every commit raises it until the store
        is opened again.
        """
        ...

    def payloads(self, ids: Sequence[int]) -> list[bytes | None]:
        """Return the payloads by id, None for those that are not live. Raises CorruptStoreError on a bad checksum."""
        ...

    def vectors(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the ids that are live, in the given order, and their vectors, (n, dimension) float32 C-contiguous."""
        ...

    def live_bytes(self) -> int:
        """Return about how many bytes the records of the live experiences take."""
        ...

    def size_bytes(self) -> int:
        """Return the bytes that the store takes on disk."""
        ...

    def backup(self) -> BackupSource:
        """Return the store as it is now, between two groups; what is written later is not in it.

        Takes milliseconds; the copying is done by whoever reads the files.
        """
        ...

    def moment(self) -> Moment:
        """Return what is live now, between two groups; takes as long as copying the table."""
        ...

    def close(self) -> None:
        """Release the store and its lock; nothing that was committed depends on it."""
        ...
