"""What goes in and what comes out: plain values with numpy arrays, independent of HTTP.

All are immutable and may be shared between threads; the arrays in them are not copied, so a caller that keeps an
Experience must not write into its arrays before the append has been answered.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

Vector = npt.ArrayLike
"""One vector or a matrix of them, in anything that numpy reads; sent as float32."""
Ids = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Part = Literal["experience", "vector"]
Include = Collection[Part] | tuple[Part, ...]
"""What an answer has beside ids."""
_CLIENT_ID_BYTES = 16
Mode = Literal["prioritised", "uniform", "recent"]
WeightNorm = Literal["batch", "floor"]
ExportFormat = Literal["arrow", "parquet"]


def _fresh_client_id() -> str:
    return os.urandom(_CLIENT_ID_BYTES).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """One answer of a model and what came of it, ready to be appended.

    At least one of ``visual`` and ``text`` is needed. ``client_id`` names this experience for ever: appending the
    same object again, by a retry or by hand, adds nothing twice.
    """

    confidence: float
    """In [0, 1]."""
    visual: Vector | None = None
    text: Vector | None = None
    question: str | None = None
    answer: str | None = None
    image_uri: str | None = None
    trajectory: Sequence[Any] | None = None
    """Steps in any JSON shape."""
    rewards: Sequence[float] | None = None
    """One per step; the total counts for the priority."""
    reward: float | None = None
    """The total, where it is not the sum of ``rewards``."""
    metadata: Mapping[str, Any] | None = None
    client_id: str = field(default_factory=_fresh_client_id)


class StoredExperience(msgspec.Struct, frozen=True, kw_only=True):
    """An experience as the buffer keeps it. Fields that this version of the client does not know are dropped."""

    id: int
    sequence: int = 0
    """Sequence number of its last change of priority, the append included: what ``update_priorities`` compares."""
    created_at: float = 0.0
    """Unix time in seconds."""
    client_id: str | None = None
    question: str | None = None
    answer: str | None = None
    image_uri: str | None = None
    trajectory: list[Any] | None = None
    rewards: list[float] | None = None
    reward: float | None = None
    confidence: float = 0.0
    metadata: dict[str, Any] | None = None
    vector: Vectors | None = None
    """The fused, normalised embedding that searches compare with; absent in lists unless asked for."""
    priority: float = 0.0
    """The part that only writes change."""
    weight: float = 0.0
    """What it weighs in sampling at the moment of reading, age and success included."""
    retrieval_count: int = 0
    """How often a search returned it."""
    sample_count: int = 0
    outcome_count: int = 0
    success_count: int = 0
    success_rate: float | None = None


@dataclass(frozen=True, slots=True)
class AppendResult:
    """All of the append is durable and visible to searches that ask for at least ``sequence``."""

    ids: Ids
    """Shape (n,), in the order of the experiences; a retry gets the ids of the first time."""
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """Order what is nearest by what has helped and is fresh, too.

    score = similarity^similarity_power · success^success_power · freshness, each in [0, 1]; see ``RankParts``.
    """

    candidates: int | None = None
    """How many of the nearest are ordered for each query; 4·k where it is not given."""
    similarity_power: float = 1.0
    success_power: float = 1.0
    freshness_half_life_s: float | None = None
    """Age at which freshness is 1/2; without it age does not count."""


@dataclass(frozen=True, slots=True)
class RankParts:
    """What the scores of a ranked search are made of, each of shape (n, k), NaN where there is no id."""

    similarity: Weights
    """(1 + cosine) / 2, or 1 / (1 + distance)."""
    success: Weights
    """(successes + 1) / (outcomes + 2)."""
    freshness: Weights
    """2^(−age / half-life)."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Answers to n queries, best first. One request is answered from one generation."""

    ids: Ids
    """Shape (n, k); -1 where there are fewer than k."""
    scores: Scores
    """Shape (n, k), higher is nearer, or for a ranked search of more use; NaN where there is no id."""
    sequence: int
    """All writes up to here were taken into account."""
    generation: int
    experiences: list[list[StoredExperience]] | None = None
    """Per query, one for each of the row's ids and without padding; None unless asked for."""
    vectors: Vectors | None = None
    """Shape (n, k, dimension), NaN where there is no id; None unless asked for."""
    parts: RankParts | None = None
    """None unless ranked."""


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """A draw. ``weights`` are the importance weights, divided by what ``weight_norm`` names."""

    ids: Ids
    probabilities: Weights
    weights: Weights
    sequences: Ids
    """Give these back with ``update_priorities``, so that a late update is told from a timely one."""
    table_size: int
    experiences: list[StoredExperience] | None = None
    vectors: Vectors | None = None
    """Shape (n, dimension); None unless asked for."""
    weight_norm: str = "batch"
    """``batch``: the largest weight of this batch; ``floor``: the largest that any experience could have."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class ExperiencePage:
    """A page in FIFO order; ``next_cursor`` is None on the last one."""

    experiences: list[StoredExperience]
    next_cursor: int | None


class UpdateStatus(StrEnum):
    """What became of one id of an update."""

    APPLIED = "applied"
    EVICTED = "evicted"
    """The experience is gone; nothing else was touched in its place."""
    STALE = "stale"
    """It has changed since the sequence that was given; the newer value stands."""


class ExportResult(msgspec.Struct, frozen=True, kw_only=True):
    """How far the exported chunks, from which indexes are built, go."""

    watermark: int
    """Sequence number up to which they hold the buffer's content."""
    rows: int
