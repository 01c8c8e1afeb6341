"""Draws from the experiences: by priority (``core.priority``), uniformly, or by recency; from all or from some.

By priority follows Schaul et al., "Prioritized Experience Replay" (ICLR 2016): P(i) = w_i / Σ w, stratified over equal
shares of the sum; with a uniform share η the probability is (1−η)·P(i) + η/N. From all goes through a tree of sums
(``core.following``). From some: their weights are gathered and drawn from directly, so probabilities are exact however
few they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buffer_service.core.drawing import Mode, WeightNorm, importance, pick, pick_unique, strata
from buffer_service.core.following import Following, Law
from buffer_service.core.priority import Weights
from buffer_service.core.sum_tree import Slots
from buffer_service.errors import InvalidRequestError
from buffer_service.index.view import Allowed
from buffer_service.settings import SamplingSettings
from buffer_service.storage.table import Table

_ROUNDS_MAX = 8
"""Rounds of unique draws in the tree; what is missing then is drawn from all weights at once."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One batch, parallel arrays. ``weights`` are at most 1, see ``core.drawing.importance``."""

    ids: npt.NDArray[np.int64]
    probabilities: Weights
    weights: Weights
    versions: npt.NDArray[np.int64]
    table_size: int


class Sampler:
    """Draws may come from any thread; changes from the writer thread alone.

    The table is changed only under its lock, together with the tree: a draw never meets a slot whose row has left.
    """

    def __init__(self, settings: SamplingSettings, table: Table, now_s: float) -> None:
        self._table = table
        self._following = Following(settings, table, now_s)
        self._random = np.random.default_rng()

    def seed(self, seed: int) -> None:
        """Make the draws from here on repeatable, for checks."""
        self._random = np.random.default_rng(seed)

    def note(self, slots: Slots | Sequence[int]) -> None:
        """Follow the rows in these slots of the table from the next draw on. Called under the table's lock."""
        self._following.note(slots)

    def draw(
        self,
        size: int,
        beta: float,
        now_s: float,
        *,
        unique: bool,
        mode: Mode = "prioritised",
        weight_norm: WeightNorm = "batch",
        allowed: Allowed | None = None,
    ) -> Drawn:
        """Draw ``size`` experiences, of those allowed if that is given; none where there are none.

        O(size·log slots), whatever the capacity; with ``allowed`` a few passes over the slots. Probabilities are those
        of a single draw. Raises InvalidRequestError when unique draws exceed the number of experiences.
        """
        found = None if allowed is None else self._find(allowed)
        with self._table.lock:
            self._following.move_to(now_s)
            among = None if found is None else found[0][self._table.ids[found[0]] == found[1]]
            count = len(self._table) if among is None else len(among)
            if unique and size > count:
                raise InvalidRequestError(f"{size} unique draws from {count} experiences; ask for fewer")
            if count == 0:
                return _nothing()
            if among is None:
                law = self._following.of_all(mode)
                slots, weights, total = self._from_tree(law, size, unique=unique)
                least = law.least
            else:
                every, least = self._following.of_some(mode, among, self._table.ids[among])
                places = (pick_unique if unique else pick)(self._random, every, size)
                slots, weights, total = among[places], every[places], float(every.sum())
            ids, versions = self._table.ids[slots], self._table.version[slots]
        probabilities = weights / total
        lowest = least / total if weight_norm == "floor" else float(probabilities.min())
        return Drawn(ids, probabilities, importance(probabilities, beta, lowest), versions, count)

    def weights_between(self, first: int, end: int, now_s: float) -> Weights:
        """Return what these slots weigh in prioritised draws now, the uniform share included; 0 where there is no row.

        There are none beyond the last slot, nor while there is no row at all.
        """
        with self._table.lock:
            self._following.move_to(now_s)
            if not len(self._table):
                return np.zeros(0)
            law = self._following.of_all("prioritised")
            return law.tree.weights_between(law.coefficients, first, end)

    def _find(self, allowed: Allowed) -> tuple[Slots, npt.NDArray[np.int64]]:
        """Return slots and ids of what is allowed; without the lock, so a slot may have another row by now."""
        ids = self._table.ids.copy()
        slots = np.flatnonzero(allowed.among(ids))
        return slots, ids[slots]

    def _from_tree(self, law: Law, size: int, *, unique: bool) -> tuple[Slots, Weights, float]:
        """Return slots, their weights and the total."""
        tree, coefficients = law.tree, law.coefficients
        if not unique:
            return tree.draw(coefficients, strata(self._random, size))
        drawn: list[tuple[Slots, Weights]] = []
        kept: list[Weights] = []
        missing, total = size, float(coefficients @ tree.totals())
        left = total
        try:
            while missing and len(drawn) < _ROUNDS_MAX and left > 0.0:
                slots, weights, _ = tree.draw(coefficients, strata(self._random, missing))
                slots, first = np.unique(slots, return_index=True)
                drawn.append((slots, weights[first]))
                missing -= len(slots)
                if missing:  # what was drawn weighs nothing until the batch is full
                    kept.append(tree.leaves(slots))
                    tree.set(slots, np.zeros((len(coefficients), len(slots))))
                    left = float(coefficients @ tree.totals())
            if missing:
                every = tree.weights_between(coefficients, 0, tree.slots)
                slots = pick_unique(self._random, every, missing)
                drawn.append((slots, every[slots]))
        finally:
            for (slots, _), leaves in zip(drawn, kept, strict=False):
                tree.set(slots, leaves)
        slots, weights = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        return slots, weights, total


def _nothing() -> Drawn:
    return Drawn(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0, np.int64), 0)
