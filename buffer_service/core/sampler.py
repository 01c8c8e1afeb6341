"""Prioritised draws: proportional to the weight of ``core.priority`` at the time of the draw, with importance weights.

Follows Schaul et al., "Prioritized Experience Replay" (ICLR 2016): P(i) = w_i / Σ w, stratified over equal shares of
the sum, importance weight (N·P(i))^(−β) divided by the largest of the batch. With a uniform share η the probability is
(1−η)·P(i) + η/N.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buffer_service.core.priority import Weighing, Weights, success_multiplier
from buffer_service.core.sum_tree import SumTree
from buffer_service.errors import InvalidRequestError
from buffer_service.settings import SamplingSettings
from buffer_service.storage.table import Row, Table

_STEADY, _MOVING, _COUNT = range(3)
_CHANGED_MAX = 1024
"""Bounds the share of a draw's time that catching up takes: half a millisecond."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One batch, parallel arrays. ``weights`` are divided by the largest of the batch."""

    ids: npt.NDArray[np.int64]
    probabilities: Weights
    weights: Weights
    versions: npt.NDArray[np.int64]
    table_size: int


class Sampler:
    """Keeps the tree in step with the table. Draws may come from any thread; changes from the writer thread alone.

    The table is changed only under ``lock``, together with the tree: a draw never meets a slot whose row has left.
    """

    def __init__(self, settings: SamplingSettings, table: Table, now_s: float) -> None:
        self._settings = settings
        self._table = table
        self._weighing = Weighing(settings, now_s)
        self._tree = SumTree(3, table.slot_count)
        self._latest_s = now_s
        """Latest time seen; a clock that is set back must not make ages negative."""
        self.lock = threading.Lock()
        self._random = np.random.default_rng()
        self._changed: set[int] = set()
        """Slots whose rows the tree does not follow yet: it costs least to take over many at once."""
        self._take_over(np.flatnonzero(table.ids > 0))

    def note(self, slots: Iterable[int]) -> None:
        """Follow the rows in these slots of the table from the next draw on. Called under ``lock``."""
        self._changed.update(slots)
        if len(self._changed) >= _CHANGED_MAX:
            self._catch_up()

    def _catch_up(self) -> None:
        if self._changed:
            self._take_over(np.fromiter(self._changed, np.int64, len(self._changed)))
            self._changed.clear()

    def _take_over(self, slots: npt.NDArray[np.int64]) -> None:
        """Follow the rows in these slots (distinct); a slot without a row gets weight zero."""
        table = self._table
        self._latest_s = max(self._latest_s, float(table.created_at[slots].max(initial=0.0)))
        live = table.ids[slots] > 0
        multiplier = success_multiplier(
            table.successes[slots].astype(np.float64), table.search_retrievals[slots].astype(np.float64)
        )
        steady, moving = self._weighing.split(table.priority[slots], multiplier, table.created_at[slots])
        self._tree.set(slots, np.where(live, np.stack([steady, moving, np.ones(len(slots))]), 0.0))

    def draw(self, size: int, beta: float, now_s: float, *, unique: bool) -> Drawn:
        """Draw ``size`` experiences; none from an empty table. O(size·log slots), whatever the capacity.

        Raises InvalidRequestError when unique draws exceed the number of experiences.
        """
        with self.lock:
            self._catch_up()
            now_s = self._latest_s = max(now_s, self._latest_s)
            self._rebase_if_needed(now_s)
            totals = self._tree.totals()
            count = round(totals[_COUNT])
            if unique and size > count:
                raise InvalidRequestError(f"{size} unique draws from {count} experiences; ask for fewer")
            if count == 0:
                return _nothing()
            coefficients = self._coefficients(totals, now_s)
            slots = self._unique(coefficients, size) if unique else self._tree.draw(coefficients, self._strata(size))
            weights = coefficients @ self._tree.leaves(slots)
            total = float(coefficients @ totals)
            ids, versions = self._table.ids[slots], self._table.version[slots]
        probabilities = weights / total
        importance = (count * probabilities) ** -beta
        return Drawn(ids, probabilities, importance / importance.max(), versions, count)

    def _coefficients(self, totals: Weights, now_s: float) -> Weights:
        factor = self._weighing.factor(now_s)
        share = self._settings.uniform_share
        weight = totals[_STEADY] + factor * totals[_MOVING]
        return np.array([1.0, factor, share / (1.0 - share) * weight / totals[_COUNT]])

    def _strata(self, size: int) -> Weights:
        points: Weights = (np.arange(size) + self._random.random(size)) / size
        return np.minimum(points, np.nextafter(1.0, 0.0))

    def _unique(self, coefficients: Weights, size: int) -> npt.NDArray[np.int64]:
        """Draw without replacement: what was drawn weighs nothing until the batch is full."""
        taken: list[npt.NDArray[np.int64]] = []
        kept: list[Weights] = []
        missing = size
        try:
            while missing:
                slots = np.unique(self._tree.draw(coefficients, self._strata(missing)))
                taken.append(slots)
                kept.append(self._tree.leaves(slots).copy())
                self._tree.set(slots, np.zeros((3, len(slots))))
                missing -= len(slots)
        finally:
            for slots, leaves in zip(taken, kept, strict=True):
                self._tree.set(slots, leaves)
        return np.concatenate(taken)

    def _rebase_if_needed(self, now_s: float) -> None:
        if self._weighing.needs_rebase(now_s):
            self._tree.scale(_MOVING, self._weighing.factor(now_s))
            self._weighing = Weighing(self._settings, now_s)

    def weight_of(self, row: Row, now_s: float) -> float:
        """Return the present weight of a row, before the uniform share."""
        multiplier = success_multiplier(np.float64(row.successes), np.float64(row.search_retrievals))
        return self._weighing.effective_priority(row.priority, float(multiplier), now_s - row.created_at)


def _nothing() -> Drawn:
    return Drawn(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0, np.int64), 0)
