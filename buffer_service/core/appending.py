"""Making the vectors of all appends of a group at once.

One row alone costs ten small numpy calls, and each gives up the interpreter lock; a group costs as many as a row. Runs
on the writer thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from buffer_service.core.embedding import Modality, Vectors, fuse, mixed_rows, to_vector, usual_rows
from buffer_service.core.experience import Prepared
from buffer_service.errors import InvalidRequestError
from buffer_service.settings import EmbeddingSettings


@dataclass(slots=True, eq=False)
class AppendRequest:
    """The experiences of one append; ``vectors`` are there after ``finish``, or else ``error``."""

    items: Sequence[Prepared]
    vectors: list[bytes] | None = None
    """Little-endian float32 as the index wants them, one for each item."""
    error: InvalidRequestError | None = None


def finish(requests: Sequence[AppendRequest], settings: EmbeddingSettings) -> None:
    """Make the vectors of these requests; a bad vector fails the request that it came with, and no other."""
    todo = [request for request in requests if request.vectors is None and request.error is None]
    items = [item for request in todo for item in request.items]
    rows = _rows(items, settings) if items else []
    if rows is None:
        for request in todo:
            _finish_alone(request, settings)
        return
    first = 0
    for request in todo:
        request.vectors = rows[first : first + len(request.items)]
        first += len(request.items)


def _rows(items: Sequence[Prepared], settings: EmbeddingSettings) -> list[bytes] | None:
    """Return the vectors, None when one of them is bad, or so short or long that it needs more than float32."""
    visual = _stacked([item.visual for item in items], settings.dimension)
    text = _stacked([item.text for item in items], settings.dimension)
    one = visual or text
    if one is None:
        return None
    mixed = one[0]
    if visual is not None and text is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            mixed = mixed_rows(visual, text, settings)
    vectors = usual_rows(mixed, settings)
    if vectors is None:
        return None
    data, size = vectors.astype("<f4", copy=False).tobytes(), 4 * settings.dimension
    return [data[start : start + size] for start in range(0, len(data), size)]


def _stacked(rows: list[bytes | None], dimension: int) -> Modality | None:
    """Return the rows, zeroes for what is not there; None where none is."""
    present = [row for row in rows if row is not None]
    if not present:
        return None
    found = np.frombuffer(b"".join(present), "<f4").reshape(-1, dimension)
    there = np.array([row is not None for row in rows])
    if len(found) == len(rows):
        return found, there
    vectors = np.zeros((len(rows), dimension), np.float32)
    vectors[there] = found
    return vectors, there


def _finish_alone(request: AppendRequest, settings: EmbeddingSettings) -> None:
    try:
        request.vectors = [_one(item, settings).astype("<f4").tobytes() for item in request.items]
    except InvalidRequestError as error:
        request.error = error


def _one(item: Prepared, settings: EmbeddingSettings) -> Vectors:
    visual = None if item.visual is None else to_vector(item.visual, settings.dimension, "visual")
    text = None if item.text is None else to_vector(item.text, settings.dimension, "text")
    return fuse(visual, text, settings)
