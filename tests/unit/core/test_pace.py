"""A team of threads is used for as long as it is quicker, and tried again when it may be."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer_service.core.pace import (
    ALONE_EVERY,
    BATCH_ROWS_MAX,
    REST_MAX,
    REST_MIN,
    SLOWER,
    TEAM_ROWS_MIN,
    WON_MIN,
    Pace,
)

ROWS = 16
ALONE_S, QUICKER_S, SLOWER_S = 1e-4, 6e-5, 3e-4


def _pace() -> Pace:
    """Return one on a machine where a core is free."""
    return Pace(lambda: True)


def _batch(pace: Pace, team_s: float, rows: int = ROWS) -> bool:
    """Do one batch, in which a team takes so long for each query; tells whether one did it."""
    team = pace.team(rows)
    pace.learn(rows, team_s if team else ALONE_S, team=team)
    return team


def _batches(pace: Pace, count: int, team_s: float) -> list[bool]:
    return [_batch(pace, team_s) for _ in range(count)]


def test_a_team_is_tried_when_it_is_known_what_a_batch_takes_alone() -> None:
    """And kept while it is quicker."""
    assert _batches(_pace(), 10, QUICKER_S) == [False] + 9 * [True]


def test_few_queries_are_done_alone() -> None:
    """They take no longer than to begin together."""
    pace = _pace()

    assert not any(_batch(pace, QUICKER_S, rows=TEAM_ROWS_MIN - 1) for _ in range(10))


def test_a_team_that_is_slower_is_left_alone_for_longer_each_time() -> None:
    """Up to a bound, so that it is found out when it has become quicker."""
    done = _batches(_pace(), ALONE_EVERY - 1, SLOWER_S)
    tried = [number for number, team in enumerate(done) if team]
    rests = [later - earlier - 1 for earlier, later in pairwise(tried)]

    assert rests[:4] == [REST_MIN, 2 * REST_MIN, 4 * REST_MIN, REST_MAX]
    assert set(rests[4:]) == {REST_MAX}


@pytest.mark.parametrize(("longer", "next_ones"), [(0.99 * SLOWER, [True]), (1.01 * SLOWER, [False])])
def test_one_batch_that_takes_a_team_a_little_longer_does_not_end_it(longer: float, next_ones: list[bool]) -> None:
    """As when the second thread was needed elsewhere for a moment; one that takes much longer does."""
    pace = _pace()
    _batches(pace, 20, QUICKER_S)
    _batch(pace, longer * ALONE_S)

    assert _batches(pace, 1, QUICKER_S) == next_ones


def test_a_team_that_is_always_a_little_slower_is_left_alone() -> None:
    """As on two halves of one core."""
    done = _batches(_pace(), ALONE_EVERY - 1, 1.05 * ALONE_S)

    assert done.count(True) == _batches(_pace(), ALONE_EVERY - 1, SLOWER_S).count(True)


def test_a_team_that_has_failed_is_not_tried_while_no_core_is_free() -> None:
    """Each try would make a whole batch wait; and it is tried once one is."""
    free = [True]
    pace = Pace(lambda: free[0])
    assert _batches(pace, 2, SLOWER_S) == [False, True]
    free[0] = False
    assert not any(_batches(pace, 4 * REST_MAX, QUICKER_S))
    free[0] = True

    assert _batches(pace, 10, QUICKER_S) == [False] + 9 * [True]


def test_a_team_that_is_quicker_goes_on_though_no_core_seems_free() -> None:
    """Whoever has just asked something is still awake then."""
    pace = Pace(lambda: False)

    assert _batches(pace, 10, QUICKER_S) == [False] + 9 * [True]


def test_rests_become_shorter_again_while_a_team_is_quicker() -> None:
    """As after a build that took one of the cores."""
    pace = _pace()
    _batches(pace, 500, SLOWER_S)
    done = _batches(pace, REST_MAX + 4 * WON_MIN, QUICKER_S)
    assert done[-4 * WON_MIN :] == 4 * WON_MIN * [True]

    done = _batches(pace, 1 + REST_MIN + 1, SLOWER_S)
    assert done == [True] + REST_MIN * [False] + [True]


def test_what_a_batch_takes_beside_another_thread_is_not_what_it_takes_alone() -> None:
    """Else a team that is slow would seem quick."""
    pace = _pace()
    _batch(pace, SLOWER_S)
    for _ in range(100):
        pace.learn(ROWS, 10 * SLOWER_S, team=False, disturbed=True)

    assert _batches(pace, 3, SLOWER_S) == [True, False, False]


def test_what_a_batch_takes_alone_is_measured_anew_now_and_then() -> None:
    """It changes with the index."""
    done = _batches(_pace(), 4 * ALONE_EVERY, QUICKER_S)

    assert done.count(False) == 1 + 4


@given(st.lists(st.tuples(st.integers(1, BATCH_ROWS_MAX), st.floats(1e-6, 1e-2)), max_size=300))
def test_no_history_leaves_the_team_alone_for_good(history: list[tuple[int, float]]) -> None:
    """After the longest rest it is tried, whatever was before."""
    pace = _pace()
    for rows, row_s in history:
        pace.learn(rows, row_s, team=pace.team(rows))
    pace.learn(ROWS, ALONE_S, team=False)

    assert any(_batches(pace, REST_MAX + 2, QUICKER_S))
