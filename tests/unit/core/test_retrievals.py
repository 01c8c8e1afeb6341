"""Retrievals are counted exactly, however many answers are gathered before they are."""

from __future__ import annotations

import numpy as np

from buffer_service.core.retrievals import TAKEN_MAX, Retrievals


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
    for _ in range(20_000):
        retrievals.note(np.array([5, 6], np.int64), searched=True)

    assert retrievals.take() == [(5, 20_000, 0), (6, 20_000, 0)]


def test_what_is_more_than_can_be_committed_at_once_waits_and_adds_up() -> None:
    """Each id has its turn, by rising id, and nothing is lost or counted twice."""
    retrievals = Retrievals()
    every = np.arange(1, 2 * TAKEN_MAX + 11, dtype=np.int64)
    retrievals.note(every, searched=True)
    first = retrievals.take()
    retrievals.note(every, searched=False)
    second, third = retrievals.take(), retrievals.take()

    assert [row[0] for row in first] == every[:TAKEN_MAX].tolist()
    assert second == [(experience, 1, 1) for experience in every[TAKEN_MAX : 2 * TAKEN_MAX].tolist()]
    assert {row[0] for row in third} >= set(every[-10:].tolist())
    left = [row for _ in range(3) for row in retrievals.take()]
    sums = np.zeros((len(every) + 1, 2), np.int64)
    for experience, searches, samples in first + second + third + left:
        sums[experience] += searches, samples
    assert sums[1:].tolist() == [[1, 1]] * len(every)


def test_nothing_waits_when_the_service_ends() -> None:
    """Then all is taken at once."""
    retrievals = Retrievals()
    retrievals.note(np.arange(1, 5 * TAKEN_MAX, dtype=np.int64), searched=True)
    retrievals.take_all_from_now()

    assert len(retrievals.take()) == 5 * TAKEN_MAX - 1
    assert retrievals.take() == []
