"""The sum tree: sums stay exact, draws fall where the weights are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer_service.core.sum_tree import SumTree

_ONE = np.array([1.0])


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 1e6)), min_size=1, max_size=60), st.integers(1, 300))
def test_the_root_is_the_sum_of_the_leaves(changes: list[tuple[int, float]], slots: int) -> None:
    """After any changes, growth included, the total is that of the leaves, without drift."""
    tree = SumTree(1, slots)
    leaves: dict[int, float] = {}
    for slot, weight in changes:
        tree.set(np.array([slot]), np.array([[weight]]))
        leaves[slot] = weight

    assert tree.totals()[0] == pytest.approx(sum(leaves.values()), rel=1e-12)


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=200).filter(lambda weights: sum(weights) > 0),
    st.floats(0, 0.999999),
)
def test_a_draw_falls_on_the_leaf_that_covers_the_point(weights: list[float], point: float) -> None:
    """The drawn leaf has weight, and the running sum passes the point there (up to rounding)."""
    tree = SumTree(1, len(weights))
    tree.set(np.arange(len(weights)), np.array([weights]))

    slots, drawn, summed = tree.draw(_ONE, np.array([point]))

    slot, total = int(slots[0]), sum(weights)
    assert drawn.tolist() == [weights[slot]]
    assert summed == pytest.approx(total)
    assert weights[slot] > 0
    assert sum(weights[:slot]) <= point * total + 1e-9 * total
    assert sum(weights[: slot + 1]) >= point * total - 1e-9 * total


def test_coefficients_combine_the_components() -> None:
    """Weights are a dot product, taken at the time of the draw."""
    tree = SumTree(2, 3)
    tree.set(np.arange(3), np.array([[1.0, 2.0, 4.0], [0.0, -2.0, -3.0]]))

    drawn, weights, _ = tree.draw(np.array([1.0, 1.0]), (np.arange(1000) + 0.5) / 1000)

    assert np.bincount(drawn, minlength=3).tolist() == [500, 0, 500]
    assert set(weights.tolist()) == {1.0}


def test_scaling_a_component_scales_every_level() -> None:
    """The landmark of the age term is moved this way."""
    tree = SumTree(2, 5000)
    tree.set(np.arange(5000), np.ones((2, 5000)))
    tree.scale(np.array([1.0, 0.5]))

    assert tree.totals().tolist() == [5000.0, 2500.0]
    assert tree.weights(np.array([0.0, 1.0]), np.array([0, 4999])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("slots", [10, 5000, 200_000])
def test_every_level_leads_to_the_leaf(slots: int) -> None:
    """Whatever the depth, equal leaves are drawn in their order, one for each point; all weights can be asked for."""
    tree = SumTree(2, slots)
    tree.set(np.arange(slots), np.stack([np.ones(slots), np.arange(slots)]))

    drawn, _, _ = tree.draw(np.array([1.0, 0.0]), (np.arange(slots) + 0.5) / slots)

    assert drawn.tolist() == list(range(slots))
    few, all_of_them = np.arange(0, slots, 10), np.arange(slots)
    for asked in (few, all_of_them):
        assert tree.weights(np.array([0.0, 2.0]), asked).tolist() == (2.0 * asked).tolist()


@given(st.sets(st.integers(0, 299), min_size=1), st.integers(0, 2**32))
def test_a_leaf_without_weight_is_never_drawn(live: set[int], seed: int) -> None:
    """Also with components that cancel each other, and at the very edges of the ranges."""
    random = np.random.default_rng(seed)
    tree = SumTree(2, 300)
    slots = np.array(sorted(live))
    steady = random.uniform(0.01, 1000.0, len(slots))
    tree.set(slots, np.stack([steady, -steady * random.uniform(0.0, 0.99, len(slots))]))
    points = np.concatenate([np.linspace(0.0, 1.0, 500, endpoint=False), [np.nextafter(1.0, 0.0)]])

    drawn, weights, _ = tree.draw(np.array([1.0, 1.0]), points)

    assert set(drawn.tolist()) <= live
    assert (weights > 0.0).all()
