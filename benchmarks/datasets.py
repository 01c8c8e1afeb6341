"""Vectors to search among, of unit length and DIMENSION float32, the same in every run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks.workload import DIMENSION

Vectors = npt.NDArray[np.float32]

_CLUSTERS = 1000
_SPREAD = 0.7
_HIDDEN = (64, 256)
_BLOCK_ROWS = 20_000


def clustered(rows: int, seed: int) -> Vectors:
    """Return rows around 1,000 centres: kind to inverted lists."""
    centres = np.random.default_rng(0).standard_normal((_CLUSTERS, DIMENSION), np.float32)
    random = np.random.default_rng((1, seed))

    def block(count: int) -> Vectors:
        noise = random.standard_normal((count, DIMENSION), np.float32)
        return centres[random.integers(_CLUSTERS, size=count)] + np.float32(_SPREAD) * noise

    return _unit(rows, block)


def unclustered(rows: int, seed: int) -> Vectors:
    """Return gaussians of 64 dimensions through a random network: hard for every index."""
    weights = np.random.default_rng(0)
    first = weights.standard_normal(_HIDDEN, np.float32)
    second = weights.standard_normal((_HIDDEN[1], DIMENSION), np.float32)
    random = np.random.default_rng((1, seed))

    def block(count: int) -> Vectors:
        hidden = np.maximum(random.standard_normal((count, _HIDDEN[0]), np.float32) @ first, 0)
        product: Vectors = hidden @ second
        return product

    return _unit(rows, block)


def _unit(rows: int, block: Callable[[int], Vectors]) -> Vectors:
    result = np.empty((rows, DIMENSION), np.float32)
    for start in range(0, rows, _BLOCK_ROWS):
        part = block(min(_BLOCK_ROWS, rows - start))
        result[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return result
