"""The sum trees of all live experiences, kept in step with the table, with time and with the order of appends.

One has the parts of the priority weight (``core.priority``), and a one where a uniform share is to be mixed in. The
other has the weight by recency (``core.recency``) and a one: it changes with appends and evictions alone. Not
thread-safe: the sampler holds its lock around every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buffer_service.core.drawing import Mode
from buffer_service.core.priority import Weighing, Weights, success_multiplier
from buffer_service.core.recency import Recency
from buffer_service.core.sum_tree import Slots, SumTree
from buffer_service.settings import SamplingSettings
from buffer_service.storage.table import Table

_RECENT, _UNIFORM = np.array([1.0, 0.0]), np.array([0.0, 1.0])
"""Coefficients of the second tree."""
_CHANGED_MAX = 1024
"""Bounds the share of a draw's time that catching up takes: half a millisecond."""
_VANISHING = 1e-200


@dataclass(frozen=True, slots=True)
class Law:
    """How experiences are weighed at one moment: in this tree, by these coefficients of a leaf's components."""

    tree: SumTree
    coefficients: Weights
    least: float
    """The least that a leaf can weigh."""


class Following:
    """Tree and table. ``weighing`` may be read by any thread."""

    def __init__(self, settings: SamplingSettings, table: Table, now_s: float) -> None:
        self._settings = settings
        self._table = table
        share = settings.uniform_share
        self._even = share / (1.0 - share)
        """The weight that is divided evenly, for each that goes by priority."""
        self._latest_s = now_s
        """Latest time seen; a clock that is set back must not make ages negative."""
        self._oldest = 1
        """No live id is lower."""
        self._changed: list[Slots] = []
        """Slots whose rows the tree does not follow yet: it costs least to take over many at once."""
        self._changed_count = 0
        self.weighing = Weighing(settings, now_s)
        self._recency = Recency(settings.recent_half_life_rows, table.header.next_id - 1)
        self._mixed = share > 0.0
        self._weights = SumTree(self.weighing.parts + self._mixed, table.slot_count)
        self._order = SumTree(2, table.slot_count)
        self._followed = np.zeros(table.slot_count, np.int64)
        """By slot, the id that the second tree has."""
        self._take_over(np.flatnonzero(table.ids > 0))

    def note(self, slots: Slots | Sequence[int]) -> None:
        """Follow the rows in these slots of the table from the next draw on."""
        self._changed.append(np.asarray(slots, np.int64))
        self._changed_count += len(slots)
        if self._changed_count >= _CHANGED_MAX:
            self._catch_up()

    def move_to(self, now_s: float) -> None:
        """Bring the tree up to the table and to this time."""
        self._catch_up()
        self._latest_s = max(now_s, self._latest_s)
        self._rebase_if_needed()

    def of_all(self, mode: Mode) -> Law:
        """Return how all experiences are weighed now; there must be one."""
        if mode == "uniform":
            return Law(self._order, _UNIFORM, 1.0)
        if mode == "recent":
            if self._order.totals()[0] < _VANISHING:
                self._recency = Recency(self._settings.recent_half_life_rows, int(self._table.ids.max()))
                self._take_order(np.flatnonzero(self._table.ids > 0))
            return Law(self._order, _RECENT, self._recency.weight(self._oldest_id()))
        factors = self.weighing.factors(self._latest_s)
        if not self._mixed:
            return Law(self._weights, factors, self.weighing.least)
        each = self._even * float(factors @ self._weights.totals()[:-1]) / len(self._table)
        return Law(self._weights, np.append(factors, each), self.weighing.least + each)

    def of_some(self, mode: Mode, slots: Slots, ids: npt.NDArray[np.int64]) -> tuple[Weights, float]:
        """Return what these experiences weigh now, and the least that one of them can; there must be one."""
        if mode == "uniform":
            return np.ones(len(slots)), 1.0
        if mode == "recent":
            weights = Recency(self._settings.recent_half_life_rows, int(ids.max())).weights(ids)
            return weights, float(weights.min())
        factors = self.weighing.factors(self._latest_s)
        weights = self._weights.weights(np.append(factors, 0.0) if self._mixed else factors, slots)
        each = self._even * float(weights.mean())
        return weights + each, self.weighing.least + each

    def _catch_up(self) -> None:
        if self._changed:
            changed = np.concatenate(self._changed)
            self._changed.clear()
            self._changed_count = 0
            self._take_over(changed)

    def _take_over(self, slots: Slots) -> None:
        """Follow the rows in these slots; a slot without a row gets weight zero."""
        table = self._table
        ids, created_at = table.ids[slots], table.created_at[slots]
        self._latest_s = max(self._latest_s, float(created_at.max(initial=0.0)))
        self._rebase_if_needed()
        multiplier = success_multiplier(
            table.successes[slots].astype(np.float64), table.search_retrievals[slots].astype(np.float64)
        )
        components = self.weighing.split(table.priority[slots], multiplier, created_at)
        if self._mixed:
            components = np.append(components, np.ones((1, len(slots))), axis=0)
        components[:, ids == 0] = 0.0
        self._weights.set(slots, components)
        if len(self._followed) < table.slot_count:
            self._followed = np.append(self._followed, np.zeros(table.slot_count - len(self._followed), np.int64))
        moved = self._followed[slots] != ids
        if moved.any():
            self._take_order(slots[moved])

    def _take_order(self, slots: Slots) -> None:
        ids = self._table.ids[slots]
        components = np.stack([self._recency.weights(ids), np.ones(len(slots))])
        components[:, ids == 0] = 0.0
        self._order.set(slots, components)
        self._followed[slots] = ids

    def _rebase_if_needed(self) -> None:
        newest = self._table.header.next_id - 1
        if self.weighing.needs_rebase(self._latest_s):
            factors = self.weighing.factors(self._latest_s)
            self._weights.scale(np.append(factors, 1.0) if self._mixed else factors)
            self.weighing = Weighing(self._settings, self._latest_s)
        if self._recency.needs_rebase(newest):
            self._order.scale(np.array([self._recency.rebase(newest), 1.0]))

    def _oldest_id(self) -> int:
        """Return the lowest live id; amortised O(1), for ids are dense."""
        while self._oldest not in self._table.slots:
            self._oldest += 1
        return self._oldest
