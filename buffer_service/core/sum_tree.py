"""A sum tree over slots with several sums per node, in float64.

A leaf holds a few components; a node holds the sums of its children's. A draw is made for coefficients given then: the
weight of a leaf is the dot product of its components with them. So weights that move with time need no rewriting. The
fan-out is 64: four levels hold 16 million leaves, and numpy does a level for all draws at once. Parents are recomputed
from their children, never corrected by differences, so no rounding error builds up.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FAN_OUT = 64

Array = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int64]


class SumTree:
    """Components (c, slots). Not thread-safe: the owner holds a lock around every call."""

    def __init__(self, components: int, slots: int) -> None:
        self._components = components
        self._levels: list[Array] = []
        self._reserve(max(1, slots))

    @property
    def slots(self) -> int:
        """Number of leaves."""
        return int(self._levels[0].shape[1])

    def totals(self) -> Array:
        """Return the sums over all leaves, one per component."""
        totals: Array = self._levels[-1].sum(axis=1)
        return totals

    def leaves(self, slots: Slots) -> Array:
        """Return the components of these leaves, (c, n)."""
        return self._levels[0][:, slots]

    def set(self, slots: Slots, components: Array) -> None:
        """Set leaves; the slots are distinct, components is (c, n). O(n log slots)."""
        if not len(slots):
            return
        if int(slots.max()) >= self.slots:
            self._reserve(int(slots.max()) + 1)
        self._levels[0][:, slots] = components
        for below, above in zip(self._levels, self._levels[1:], strict=False):
            slots = np.unique(slots // FAN_OUT)
            blocks = below.reshape(self._components, -1, FAN_OUT)
            above[:, slots] = blocks[:, slots].sum(axis=2)

    def scale(self, component: int, factor: float) -> None:
        """Multiply one component of every leaf."""
        for level in self._levels:
            level[component] *= factor

    def draw(self, coefficients: Array, points: Array) -> Slots:
        """Return the slot that each point falls on; a point is in [0, 1), a share of the total weight.

        O(n log slots). The total weight must be positive. Never returns a leaf of weight zero.
        """
        node = np.zeros(len(points), np.int64)
        left = points
        for depth, level in enumerate(reversed(self._levels)):
            blocks = level.reshape(self._components, -1, FAN_OUT)[:, node]
            weights = np.maximum(np.tensordot(coefficients, blocks, axes=1), 0.0)
            sums = np.cumsum(weights, axis=1)
            if depth == 0:
                left = points * sums[:, -1]
            child = _first_beyond(sums, weights, left)
            rows = np.arange(len(points))
            left = left - np.where(child > 0, sums[rows, child - 1], 0.0)
            left = np.clip(left, 0.0, weights[rows, child])
            node = node * FAN_OUT + child
        return node

    def _reserve(self, slots: int) -> None:
        old = self._levels[0] if self._levels else None
        size = FAN_OUT
        while size < slots:
            size *= 2
        levels = [np.zeros((self._components, size))]
        while levels[-1].shape[1] > FAN_OUT:
            above = -(-levels[-1].shape[1] // FAN_OUT)
            levels.append(np.zeros((self._components, -(-above // FAN_OUT) * FAN_OUT)))
        self._levels = levels
        if old is not None:
            kept = np.arange(old.shape[1])
            self.set(kept, old)


def _first_beyond(sums: Array, weights: Array, points: Array) -> Slots:
    """Return the first column whose running sum exceeds the point, else the last of positive weight."""
    beyond = (sums > points[:, None]) & (weights > 0)
    last = FAN_OUT - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
    found: Slots = np.where(beyond.any(axis=1), np.argmax(beyond, axis=1), last).astype(np.int64)
    return found
