"""Two-phase retrieval: what is nearest first, and among that, what has helped and is fresh.

    score      = similarity^similarity_power · success^success_power · freshness
    similarity = (1 + cosine) / 2, or 1 / (1 + Euclidean distance): in [0, 1], and the nearer the higher
    success    = (successes + 1) / (outcomes + 2): the share of reported outcomes that were good, smoothed
    freshness  = 2^(−age / half-life), 1 where no half-life is given

An outcome that was never reported says nothing, so retrievals do not count against an experience; one without outcomes
has success 1/2 (Laplace's rule of succession). Any thread; the counters are those of the moment of ranking.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_service.errors import InvalidRequestError
from buffer_service.index.metric import COSINE, Ids
from buffer_service.index.view import Found
from buffer_service.storage.table import Table

_CANDIDATES_PER_RESULT = 4
_POWER_MAX = 100.0
_GOOD_BEFORE, _OUTCOMES_BEFORE = 1.0, 2.0

Numbers = npt.NDArray[np.float64]


class Rank(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """How results are ordered, see above."""

    candidates: int | None = None
    """How many of the nearest are ordered for each query: at least k; 4·k where it is not given."""
    similarity_power: float = 1.0
    """0 to 100; 0 leaves similarity out of the order."""
    success_power: float = 1.0
    """0 to 100; 0 leaves success out."""
    freshness_half_life_s: float | None = None
    """Age in seconds at which freshness is 1/2; not given, age does not count."""

    def candidates_for(self, k: int, k_max: int) -> int:
        """Return how many to take by similarity; raises InvalidRequestError for what is out of range."""
        given = min(_CANDIDATES_PER_RESULT * k, k_max) if self.candidates is None else self.candidates
        if not k <= given <= k_max:
            raise InvalidRequestError(f"rank.candidates is {given}; give k ({k}) to {k_max}")
        for name, power in (("similarity_power", self.similarity_power), ("success_power", self.success_power)):
            if not 0.0 <= power <= _POWER_MAX:
                raise InvalidRequestError(f"rank.{name} is {power}; give 0 to {_POWER_MAX:g}")
        half_life_s = self.freshness_half_life_s
        if half_life_s is not None and not (half_life_s > 0.0 and math.isfinite(half_life_s)):
            raise InvalidRequestError(f"rank.freshness_half_life_s is {half_life_s}; give a positive number of seconds")
        return given


@dataclass(slots=True)
class Ranked(Found):
    """An answer ordered by score, and the parts of each score, (n, k) float64, 0 where there is no id."""

    similarity: Numbers
    success: Numbers
    freshness: Numbers


class Ranker:
    """Orders candidates by the counters of the table."""

    def __init__(self, table: Table, metric: str, clock: Callable[[], float]) -> None:
        self._table = table
        self._metric = metric
        self._clock = clock

    def ranked(self, found: Found, k: int, rank: Rank) -> Ranked:
        """Return the best k of each row of candidates; of equal ones the nearer first. What has left is left out."""
        ids, places = np.unique(found.ids, return_inverse=True)
        live, success, created_at = self._facts(ids)
        similarity = _similarity(found.scores.astype(np.float64), self._metric)
        freshness = np.ones(len(ids))
        if rank.freshness_half_life_s is not None:
            freshness = np.exp2(-np.maximum(0.0, self._clock() - created_at) / rank.freshness_half_life_s)
        scores = similarity**rank.similarity_power * (success**rank.success_power * freshness)[places]
        scores[~live[places]] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        chosen = np.take_along_axis(places, best, axis=1)
        there = live[chosen]
        return Ranked(
            ids=np.where(there, ids[chosen], -1),
            scores=np.take_along_axis(scores, best, axis=1).astype(np.float32),
            sequence=found.sequence,
            generation=found.generation,
            similarity=np.where(there, np.take_along_axis(similarity, best, axis=1), 0.0),
            success=np.where(there, success[chosen], 0.0),
            freshness=np.where(there, freshness[chosen], 0.0),
        )

    def _facts(self, ids: Ids) -> tuple[npt.NDArray[np.bool_], Numbers, Numbers]:
        """Return which ids are live, their success and their Unix times. The writer may be changing the table."""
        table = self._table
        slots = table.slots_of(ids)
        outcomes, successes, created_at = table.outcomes[slots], table.successes[slots], table.created_at[slots]
        live = (slots >= 0) & (table.ids[slots] == ids)
        success = (successes + _GOOD_BEFORE) / (outcomes + _OUTCOMES_BEFORE)
        return live, success, created_at


def _similarity(scores: Numbers, metric: str) -> Numbers:
    """Return similarities for the scores of a search; -inf, which stands for no neighbour, becomes 0."""
    similarity: Numbers
    similarity = np.clip((1.0 + scores) / 2.0, 0.0, 1.0) if metric == COSINE else 1.0 / (1.0 - scores)
    return similarity
