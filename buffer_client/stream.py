"""Experiences of any number, cut into requests of bounded size: pure bookkeeping, driven by either client.

Invariant: whatever was taken from the iterable is either acknowledged or listed as unacknowledged, in order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from buffer_client import calls
from buffer_client.calls import Encoded
from buffer_client.errors import IncompleteStreamError
from buffer_client.models import AppendResult, Experience, Ids

CHUNK_ROWS = 1024
CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much fits; raises ValueError where nothing would."""

    rows: int
    size_bytes: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.size_bytes < 1:
            raise ValueError(f"{self.rows} rows and {self.size_bytes} bytes leave no room for an experience")

    def hold(self, rows: int, size_bytes: int) -> bool:
        """Return whether this much fits."""
        return rows <= self.rows and size_bytes <= self.size_bytes


class AppendStream:
    """One stream on its way: what waits for the next request, what was sent, what was acknowledged. For one thread."""

    def __init__(self, chunk_rows: int, chunk_bytes: int) -> None:
        self._bounds = Bounds(chunk_rows, chunk_bytes)
        self._chunk: list[Encoded] = []
        self._chunk_bytes = 0
        self._client_ids: set[str] = set()
        self._unacknowledged: deque[Experience] = deque()
        self._ids: list[Ids] = [np.zeros(0, dtype=np.int64)]
        self._sequence = 0

    def add(self, experience: Experience) -> list[Encoded]:
        """Take one experience; returns the chunk that has to be sent before the next is taken, empty if none has."""
        self._unacknowledged.append(experience)
        encoded = calls.encode(experience)
        full = [] if self._has_room(encoded) else self.rest()
        self._chunk.append(encoded)
        self._chunk_bytes += len(encoded.body)
        self._client_ids.add(experience.client_id)
        return full

    def rest(self) -> list[Encoded]:
        """Return what waits, and begin an empty chunk."""
        chunk, self._chunk = self._chunk, []
        self._chunk_bytes = 0
        self._client_ids.clear()
        return chunk

    def acknowledge(self, result: AppendResult) -> None:
        """Take note of the answer to the oldest chunk that was sent."""
        for _ in result.ids:
            self._unacknowledged.popleft()
        self._ids.append(result.ids)
        self._sequence = max(self._sequence, result.sequence)

    def result(self) -> AppendResult:
        """Return all ids so far, and the highest sequence number."""
        return AppendResult(np.concatenate(self._ids), self._sequence)

    def incomplete(self, cause: Exception) -> IncompleteStreamError:
        """Return the error for a stream that ended early."""
        return IncompleteStreamError(cause, tuple(self._unacknowledged), self.result())

    def _has_room(self, encoded: Encoded) -> bool:
        """A chunk holds a client_id once, as a request must; a repetition in the next one gets the first id."""
        fits = self._bounds.hold(len(self._chunk) + 1, self._chunk_bytes + len(encoded.body))
        return fits and encoded.experience.client_id not in self._client_ids
