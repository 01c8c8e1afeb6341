"""Retrievals are counted exactly, however many answers are gathered before they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from buffer_service.core.retrievals import TAKEN_MAX, Retrievals
from buffer_service.storage.rows import Row
from buffer_service.storage.table import Table


def _table(rows: int) -> Table:
    """Return a table with the ids from 1 on."""
    table = Table()
    for experience in range(1, rows + 1):
        _put(table, experience)
    return table


def _put(table: Table, experience: int) -> None:
    table.put(Row(id=experience, version=1, created_at=0.0, priority=1.0, client_id=None, fingerprint=b""))


def _note(retrievals: Retrievals, *ids: int, searched: bool = True) -> None:
    retrievals.note(np.array(ids, np.int64), searched=searched)


def test_searches_and_samples_are_counted_apart() -> None:
    """Empty places count nothing, and taking begins anew."""
    retrievals = Retrievals(_table(10))
    retrievals.note(np.array([[3, 1], [3, -1]], np.int64), searched=True)
    _note(retrievals, 1, 7, 7, searched=False)

    assert retrievals.take() == [(1, 1, 1), (3, 2, 0), (7, 0, 2)]
    assert retrievals.take() == []


def test_nothing_is_lost_when_much_is_gathered() -> None:
    """What is counted in between adds up with what comes later."""
    retrievals = Retrievals(_table(10))
    for _ in range(20_000):
        _note(retrievals, 5, 6)
        _note(retrievals, 6, searched=False)

    assert retrievals.take() == [(5, 20_000, 0), (6, 20_000, 20_000)]


def test_what_is_more_than_can_be_committed_at_once_waits_and_adds_up() -> None:
    """Each id has its turn, and nothing is lost or counted twice."""
    count = 2 * TAKEN_MAX + 10
    retrievals = Retrievals(_table(count))
    every = range(1, count + 1)
    _note(retrievals, *every)
    first = retrievals.take()
    assert retrievals.behind
    _note(retrievals, *every, searched=False)
    second, third = retrievals.take(), retrievals.take()

    assert [row[0] for row in first] == list(every[:TAKEN_MAX])
    assert second == [(experience, 1, 1) for experience in every[TAKEN_MAX : 2 * TAKEN_MAX]]
    assert {row[0] for row in third} >= set(every[-10:])
    left = [row for _ in range(3) for row in retrievals.take()]
    assert not retrievals.behind
    sums = np.zeros((count + 1, 2), np.int64)
    for experience, searches, samples in first + second + third + left:
        sums[experience] += searches, samples
    assert sums[1:].tolist() == [[1, 1]] * count


def test_nothing_waits_when_the_service_ends() -> None:
    """Then all is taken at once."""
    count = 5 * TAKEN_MAX
    retrievals = Retrievals(_table(count))
    _note(retrievals, *range(1, count + 1))
    retrievals.take_all_from_now()

    assert len(retrievals.take()) == count
    assert retrievals.take() == []


def test_counts_of_an_experience_that_has_left_are_not_given_to_the_next_in_its_place() -> None:
    """The table uses its slots again."""
    table = _table(TAKEN_MAX + 1)
    retrievals = Retrievals(table)
    _note(retrievals, *range(1, TAKEN_MAX + 2))
    assert TAKEN_MAX + 1 not in [row[0] for row in retrievals.take()]

    assert table.drop(TAKEN_MAX + 1) is not None
    _put(table, 1000)
    assert retrievals.take() == []
    _note(retrievals, 1000, TAKEN_MAX + 1)
    assert retrievals.take() == [(1000, 1, 0)]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("note"), st.lists(st.integers(-1, 40), max_size=8), st.booleans()),
            st.tuples(st.just("drop"), st.integers(1, 40)),
            st.tuples(st.just("put"), st.integers(41, 80)),
            st.tuples(st.just("take")),
        ),
        max_size=40,
    )
)
def test_every_retrieval_of_a_live_experience_is_taken_once(steps: list[tuple[object, ...]]) -> None:
    """In any order of notes, takes, appends and removals; those of what has left are forgotten."""
    table = _table(40)
    retrievals = Retrievals(table)
    noted: dict[int, list[int]] = {}
    taken: dict[int, list[int]] = {}

    def take() -> None:
        for experience, searches, samples in retrievals.take():
            sums = taken.setdefault(experience, [0, 0])
            sums[0] += searches
            sums[1] += samples

    for step in steps:
        match step:
            case "note", list() as ids, bool() as searched:
                _note(retrievals, *ids, searched=searched)
                for experience in ids:
                    if experience in table.slots:
                        noted.setdefault(experience, [0, 0])[not searched] += 1
            case "drop", int() as experience:
                table.drop(experience)
            case "put", int() as experience:
                _put(table, experience)
            case _:
                take()
    take()

    live = {experience: counts for experience, counts in noted.items() if experience in table.slots}
    assert {experience: counts for experience, counts in taken.items() if experience in table.slots} == live
