"""Retrievals are counted exactly, however many answers are gathered before they are."""

from __future__ import annotations

import numpy as np

from buffer_service.core.retrievals import Retrievals


def test_searches_and_samples_are_counted_apart() -> None:
    """Empty places count nothing, and taking begins anew."""
    retrievals = Retrievals()
    retrievals.note(np.array([[3, 1], [3, -1]], np.int64), searched=True)
    retrievals.note(np.array([1, 7, 7], np.int64), searched=False)

    assert retrievals.take() == [(1, 1, 1), (3, 2, 0), (7, 0, 2)]
    assert retrievals.take() == []


def test_nothing_is_lost_when_much_is_gathered() -> None:
    """What is counted in between adds up with what comes later."""
    retrievals = Retrievals()
    for _ in range(2500):
        retrievals.note(np.array([5, 6], np.int64), searched=True)

    assert retrievals.take() == [(5, 2500, 0), (6, 2500, 0)]
