"""Test data that needs no memory: the vector of a row follows from its number, which is in the metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from buffer_client import BufferClient, Experience

DIMENSION = 64
_PAGE_LIMIT = 1000
_QUERIES = 64


def vector_of(row: int) -> npt.NDArray[np.float32]:
    """Return the vector of length one that belongs to a row."""
    drawn = np.random.default_rng(row).standard_normal(DIMENSION)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def experience_of(row: int) -> Experience:
    """Return the experience that belongs to a row."""
    return Experience(visual=vector_of(row), confidence=0.5, reward=1.0, metadata={"row": row})


def stored(client: BufferClient) -> dict[int, int]:
    """Return the id of every experience in the buffer and the row in its metadata."""
    walk = client.experiences(limit=_PAGE_LIMIT)
    return {found.id: (found.metadata or {}).get("row", -1) for found in walk}


def not_found(client: BufferClient, rows: Mapping[int, int]) -> list[int]:
    """Return the rows, given by id, that a search for their own vector does not find first."""
    missing = []
    for part in _parts(list(rows.items())):
        nearest = client.search(np.stack([vector_of(row) for _, row in part]), k=1).ids[:, 0]
        missing += [row for (wanted, row), found in zip(part, nearest, strict=True) if wanted != found]
    return missing


def _parts(items: list[tuple[int, int]]) -> Iterable[list[tuple[int, int]]]:
    return (items[begin : begin + _QUERIES] for begin in range(0, len(items), _QUERIES))
