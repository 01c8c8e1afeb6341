"""Let neighbours vote: the labels of the nearest experiences, weighed by a kernel of their distance.

The default kernel is that of neural episodic control: weight ∝ 1 / (d² + δ), so that a near neighbour outweighs several
far ones and an exact match counts 1/δ. Pure functions of arrays, usable from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from buffer_client.models import SearchResult, StoredExperience

L = TypeVar("L", bound=Hashable)

Floats = npt.NDArray[np.float64]
Kernel = Callable[[Floats], Floats]
"""Squared distances to weights, which need not sum to 1. NaN in, for a place without a neighbour, may be NaN out."""

DELTA_DEFAULT = 1e-3
TEMPERATURE_DEFAULT = 0.05


@dataclass(frozen=True, slots=True)
class Vote(Generic[L]):
    """The outcome of a vote."""

    winner: L
    confidence: float
    """Share of all weight that the winner got, in (0, 1]."""
    weights: Floats
    """Weight of each voter, in the order given; sums to 1."""
    shares: dict[L, float]
    """Share of each label, largest first."""


def inverse_distance(delta: float = DELTA_DEFAULT) -> Kernel:
    """1 / (d² + δ): a small δ lets the nearest decide, a large one counts heads."""
    if delta <= 0:
        raise ValueError(f"delta must be positive, not {delta}")
    return lambda squared: 1.0 / (squared + delta)


def softmax(temperature: float = TEMPERATURE_DEFAULT) -> Kernel:
    """exp(-d² / 2τ), for unit vectors the softmax of cosine / τ: far neighbours count nothing, near ones alike."""
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, not {temperature}")

    def kernel(squared: Floats) -> Floats:
        nearest = np.fmin.reduce(squared, initial=np.inf)  # Moved to 0, so that not all underflow.
        return np.asarray(np.exp((nearest - squared) / (2.0 * temperature)), dtype=np.float64)

    return kernel


def similarity() -> Kernel:
    """1 - d² / 2, for unit vectors the cosine, and 0 from orthogonal on: close to counting heads."""
    return lambda squared: np.maximum(0.0, 1.0 - squared / 2.0)


def kernel_weights(
    scores: npt.ArrayLike,
    *,
    metric: str = "cosine",
    kernel: Kernel | None = None,
    merits: npt.ArrayLike = 1.0,
) -> Floats:
    """Return weights that sum to 1 for the scores of one query, as searches without ``rank`` return them.

    ``metric`` is the buffer's (``status().metric``), ``kernel`` the inverse distance unless given; each weight is
    multiplied by its merit. NaN scores, which pad a result, weigh nothing. Raises ValueError for an unknown metric, or
    where nobody has a weight.
    """
    squared = squared_distances(np.asarray(scores, dtype=np.float64), metric)
    raw = (kernel or inverse_distance())(squared) * np.asarray(merits, dtype=np.float64)
    raw = np.where(np.isnan(squared), 0.0, raw)
    total = raw.sum()
    if not total > 0:
        raise ValueError("nobody votes: there is no neighbour, or none that the kernel gives a weight")
    return np.asarray(raw / total, dtype=np.float64)


def squared_distances(scores: Floats, metric: str) -> Floats:
    """Return squared distances: 2 - 2·score for cosine (of unit vectors), score² for euclidean (negative distances)."""
    if metric == "cosine":
        return np.maximum(0.0, 2.0 - 2.0 * scores)
    if metric == "euclidean":
        return np.square(scores)
    raise ValueError(f"metric must be cosine or euclidean, not {metric!r}")


def vote(
    labels: Sequence[L],
    scores: npt.ArrayLike,
    *,
    metric: str = "cosine",
    kernel: Kernel | None = None,
    merits: npt.ArrayLike = 1.0,
) -> Vote[L]:
    """Return the label with the most weight; of equal ones the one whose voter comes first.

    Raises ValueError where nobody votes, or there is not one label for each score.
    """
    weights = kernel_weights(scores, metric=metric, kernel=kernel, merits=merits)
    if weights.shape != (len(labels),):
        raise ValueError(f"{len(labels)} labels for scores of shape {weights.shape}")
    shares: dict[L, float] = {}
    for label, weight in zip(labels, weights, strict=True):
        shares[label] = shares.get(label, 0.0) + float(weight)
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    winner = next(iter(ordered))
    return Vote(winner=winner, confidence=min(1.0, ordered[winner]), weights=weights, shares=ordered)


def votes(
    found: SearchResult,
    label: Callable[[StoredExperience], L],
    *,
    metric: str = "cosine",
    kernel: Kernel | None = None,
) -> list[Vote[L] | None]:
    """Return the vote for each query of a search with ``include=("experience",)``; None where it found nobody.

    ``label`` says what a neighbour votes for. In a ranked search the weight of its distance is multiplied by its
    success and its freshness. Raises ValueError for a search without experiences.
    """
    if found.experiences is None:
        raise ValueError("neighbours vote with their content: search with include=('experience',)")
    scores, merits = np.asarray(found.scores, np.float64), np.ones(found.scores.shape)
    if found.parts is not None:
        scores = _scores_of(found.parts.similarity, metric)
        merits = found.parts.success * found.parts.freshness
    outcomes: list[Vote[L] | None] = []
    for row, neighbours in enumerate(found.experiences):
        labels, voters = [label(neighbour) for neighbour in neighbours], np.s_[row, : len(neighbours)]
        outcomes.append(
            vote(labels, scores[voters], metric=metric, kernel=kernel, merits=merits[voters]) if neighbours else None
        )
    return outcomes


def _scores_of(similarity: Floats, metric: str) -> Floats:
    """Return the scores that these parts of ranked scores were made of, see ``RankParts``."""
    if metric == "cosine":
        return 2.0 * similarity - 1.0
    with np.errstate(divide="ignore"):
        return 1.0 - 1.0 / similarity
