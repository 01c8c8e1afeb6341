"""A sum tree over slots with several sums per node, in float64.

A leaf holds a few components; a node holds the sums of its children's. A draw is made for coefficients given then: the
weight of a leaf is the dot product of its components with them. So weights that move with time need no rewriting, and
one tree serves several laws. Parents are recomputed from their children, never corrected by differences, so no rounding
error builds up.

The fan-out is 16, and siblings lie together with all their components, so that a step down is one gather from a few
cache lines, which numpy does for all draws at once. The highest level has up to 4,096 nodes and is searched by
bisection: a million leaves take one bisection and two steps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FAN_OUT = 16
TOP_MAX = 4096

_UP_TO = np.triu(np.ones((FAN_OUT, FAN_OUT)))
"""Weights of siblings times this are their running sums; for short rows quicker than cumsum."""
_BELOW_ALL = 1.0 - 2.0**-48
"""A point at the upper end of a node is moved this far into it, beyond the rounding of running sums."""
_MANY = 4
"""Where more than one leaf in so many is asked for, it is quicker to weigh all."""

Array = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int64]


class SumTree:
    """Components (c, slots). Not thread-safe: the owner holds a lock around every call."""

    def __init__(self, components: int, slots: int) -> None:
        self._components = components
        self._adding = np.tile(np.eye(components), (FAN_OUT, 1))
        """Times the components of siblings, in a row, is their sum."""
        self._levels: list[Array] = []
        """From the leaves up; each is (nodes, components)."""
        self._reserve(max(1, slots))

    @property
    def slots(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def totals(self) -> Array:
        """Return the sums over all leaves, one per component."""
        totals: Array = self._levels[-1].sum(axis=0)
        return totals

    def leaves(self, slots: Slots) -> Array:
        """Return the components of these leaves, (c, n)."""
        return self._levels[0].take(slots, axis=0).T

    def weights(self, coefficients: Array, slots: Slots) -> Array:
        """Return the weights of these leaves. O(n), and never more than a pass over all leaves."""
        if len(slots) * _MANY > self.slots:
            return self.weights_between(coefficients, 0, self.slots)[slots]
        weights: Array = self._levels[0].take(slots, axis=0) @ coefficients
        return weights

    def weights_between(self, coefficients: Array, first: int, end: int) -> Array:
        """Return the weights of the leaves from first on and before end."""
        weights: Array = self._levels[0][first:end] @ coefficients
        return weights

    def set(self, slots: Slots, components: Array) -> None:
        """Set leaves, components is (c, n); a slot that is named twice has the same ones twice. O(n log slots)."""
        if not len(slots):
            return
        if int(slots.max()) >= self.slots:
            self._reserve(int(slots.max()) + 1)
        _put(self._levels[0], slots, np.ascontiguousarray(components.T))
        self._sum_above(slots)

    def scale(self, factors: Array) -> None:
        """Multiply each component of every leaf by its factor."""
        for level in self._levels:
            np.multiply(level, factors, out=level)

    def draw(self, coefficients: Array, points: Array) -> tuple[Slots, Array, float]:
        """Return the slot that each point falls on, its weight, and the total; a point is a share of that, in [0, 1].

        O(n log slots). The total weight must be positive, and no weight negative. Never returns a leaf of weight zero.
        """
        weights = self._levels[-1] @ coefficients
        sums = np.cumsum(weights)
        total = float(sums[-1])
        left = np.minimum(points * total, np.nextafter(total, 0.0))
        node = np.searchsorted(sums, left, side="right")
        weights, left = weights[node], left - (sums[node] - weights[node])
        first = np.arange(0, len(points) * FAN_OUT, FAN_OUT)
        for level in self._levels[-2::-1]:
            siblings = level.reshape(-1, FAN_OUT * self._components).take(node, axis=0)
            families = (siblings.reshape(-1, self._components) @ coefficients).reshape(-1, FAN_OUT)
            sums = families @ _UP_TO
            # Rounding may have put a point just outside of its node, or between two sums that should be equal.
            left = np.minimum(left, sums[:, -1] * _BELOW_ALL)
            right = sums > left[:, None]
            right &= families > 0.0
            child = right.argmax(axis=1)
            chosen = first + child
            weights = families.take(chosen)
            left -= sums.take(chosen) - weights
            node = node * FAN_OUT + child
        return node, weights, total

    def _sum_above(self, nodes: Slots) -> None:
        """Recompute all nodes above these leaves."""
        for below, above in zip(self._levels, self._levels[1:], strict=False):
            families = below.reshape(len(above), -1)
            nodes = nodes // FAN_OUT
            if len(nodes) >= len(above):
                nodes = np.arange(len(above))
            _put(above, nodes, families.take(nodes, axis=0) @ self._adding)

    def _reserve(self, slots: int) -> None:
        size = FAN_OUT
        while size < slots:
            size *= 2
        old, self._levels = self._levels, [np.zeros((size, self._components))]
        while size > TOP_MAX:
            size //= FAN_OUT
            self._levels.append(np.zeros((size, self._components)))
        if old:
            self._levels[0][: len(old[0])] = old[0]
            self._sum_above(np.arange(len(old[0])))


def _put(level: Array, nodes: Slots, rows: Array) -> None:
    """Set these rows of a level. Each is one item: numpy copies items several times quicker than rows of numbers."""
    item = np.dtype((np.void, rows.itemsize * rows.shape[1]))
    level.view(item)[nodes, 0] = rows.view(item)[:, 0]
