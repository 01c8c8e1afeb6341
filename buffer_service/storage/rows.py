"""What a table holds of an experience, the scalars beside its rows, and a table as it was at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

COLUMNS = (
    "ids",
    "version",
    "created_at",
    "priority",
    "search_retrievals",
    "sample_retrievals",
    "outcomes",
    "successes",
    "place",
)
"""The columns of a table; 64 bits a cell, float64 for ``created_at`` and ``priority``, int64 for the others."""


@dataclass(slots=True)
class Row:
    """One live experience. Mutable only inside the group that is being planned."""

    id: int
    version: int
    """Sequence number of the last change of its priority, the append included."""
    created_at: float
    priority: float
    client_id: str | None
    fingerprint: bytes
    search_retrievals: int = 0
    sample_retrievals: int = 0
    outcomes: int = 0
    successes: int = 0
    place: int = field(default=0, compare=False)
    """Where the adapter keeps the record; no part of the state that the log folds into."""


@dataclass(frozen=True, slots=True)
class RequestAnswer:
    """What a caller was told for a request_id, or for the client_id of an experience that has gone since."""

    fingerprint: bytes
    answer: bytes


@dataclass(slots=True)
class Header:
    """The scalars of the state."""

    sequence: int = 0
    next_id: int = 1
    generation: int = 0
    revision: int = 0
    watermark: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """A table at one moment, shared with nobody: the live rows by rising id, as columns of one length."""

    header: Header
    columns: dict[str, npt.NDArray[np.int64] | npt.NDArray[np.float64]]
    names: list[tuple[str | None, bytes]]
    """client_id and fingerprint of each row."""
    requests: list[tuple[str, RequestAnswer]]
    """From the oldest to the newest."""
    retired: list[tuple[str, RequestAnswer]]
    """From the oldest to the newest."""

    @property
    def row_count(self) -> int:
        """Number of live rows."""
        return len(self.names)
