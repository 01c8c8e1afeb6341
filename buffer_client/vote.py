"""Let neighbours vote: the labels of the nearest experiences, weighed by a kernel of their distance.

The kernel is that of neural episodic control: weight ∝ 1 / (d² + δ), so that a near neighbour outweighs several far
ones and an exact match counts 1/δ. Pure functions of arrays, usable from any thread.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

L = TypeVar("L", bound=Hashable)

DELTA_DEFAULT = 1e-3


@dataclass(frozen=True, slots=True)
class Vote(Generic[L]):
    """The outcome of a vote."""

    winner: L
    confidence: float
    """Share of all weight that the winner got, in (0, 1]."""
    weights: npt.NDArray[np.float64]
    """Weight of each voter, in the order given; sums to 1."""
    shares: dict[L, float]
    """Share of each label, largest first."""


def kernel_weights(
    scores: npt.ArrayLike, *, metric: str = "cosine", delta: float = DELTA_DEFAULT
) -> npt.NDArray[np.float64]:
    """Return weights that sum to 1 for the scores of one query, as searches return them.

    ``metric`` is the buffer's (``status().metric``). NaN scores, which pad a result, weigh nothing. Raises ValueError
    for an unknown metric, a ``delta`` that is not positive, or where no score is left.
    """
    if delta <= 0:
        raise ValueError(f"delta must be positive, not {delta}")
    squared = squared_distances(np.asarray(scores, dtype=np.float64), metric)
    raw = np.where(np.isnan(squared), 0.0, 1.0 / (squared + delta))
    total = raw.sum()
    if not total > 0:
        raise ValueError("nobody votes: there is no neighbour")
    return np.asarray(raw / total, dtype=np.float64)


def squared_distances(scores: npt.NDArray[np.float64], metric: str) -> npt.NDArray[np.float64]:
    """Return squared distances: 2 - 2·score for cosine (of unit vectors), score² for euclidean (negative distances)."""
    if metric == "cosine":
        return np.maximum(0.0, 2.0 - 2.0 * scores)
    if metric == "euclidean":
        return np.square(scores)
    raise ValueError(f"metric must be cosine or euclidean, not {metric!r}")


def vote(
    labels: Sequence[L], scores: npt.ArrayLike, *, metric: str = "cosine", delta: float = DELTA_DEFAULT
) -> Vote[L]:
    """Return the label with the most weight; of equal ones the one whose voter comes first.

    Raises ValueError where there is no voter, or not one label for each score.
    """
    weights = kernel_weights(scores, metric=metric, delta=delta)
    if weights.shape != (len(labels),):
        raise ValueError(f"{len(labels)} labels for scores of shape {weights.shape}")
    shares: dict[L, float] = {}
    for label, weight in zip(labels, weights, strict=True):
        shares[label] = shares.get(label, 0.0) + float(weight)
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    winner = next(iter(ordered))
    return Vote(winner=winner, confidence=min(1.0, ordered[winner]), weights=weights, shares=ordered)
