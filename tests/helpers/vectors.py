"""Test data: vectors and the exact answer to a search."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


def unit_vectors(count: int, dimension: int, seed: int = 0) -> Vectors:
    """Return (count, dimension) float32 rows of length one."""
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def around(centres: Vectors, count: int, spread: float, seed: int = 0) -> Vectors:
    """Return (count, dimension) float32 rows of length one, each near the next of these centres in turn."""
    rows = centres[np.arange(count) % len(centres)] + spread * unit_vectors(count, centres.shape[1], seed)
    clustered: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return clustered


def brute_force(rows: dict[int, Vectors], query: Vectors, k: int) -> list[int]:
    """Return the ids of the k rows of highest cosine, computed in float64."""
    scores = {experience: float(row.astype(np.float64) @ query.astype(np.float64)) for experience, row in rows.items()}
    return sorted(scores, key=lambda experience: -scores[experience])[:k]
