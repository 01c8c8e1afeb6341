"""The delta: fresh rows, seen as they were at a sequence number."""

from __future__ import annotations

import numpy as np
import pytest

from buffer_service.index.delta import Delta
from tests.helpers.vectors import unit_vectors


def _delta(rows: int = 4) -> Delta:
    delta = Delta(8, "cosine", 16)
    delta.append(np.arange(1, rows + 1, dtype=np.int64) * 10, unit_vectors(rows, 8))
    return delta


def test_a_reader_sees_only_the_rows_of_its_view() -> None:
    """Rows appended after the count that a reader holds do not appear, however near they are."""
    delta = _delta(2)
    query = unit_vectors(1, 8, seed=5)
    delta.append(np.array([99], np.int64), query)

    assert sorted(delta.search(query, 5, rows=2, sequence=100, lists=None)[0].tolist()) == [0, 1]


def test_a_dead_row_is_hidden_from_its_sequence_on() -> None:
    """A view of an earlier sequence still sees the row, later ones do not."""
    delta = _delta()
    query = unit_vectors(4, 8)[1:2]

    assert delta.mark_dead(20, sequence=7)

    assert 1 in delta.search(query, 4, rows=4, sequence=6, lists=None)[0]
    assert sorted(delta.search(query, 4, rows=4, sequence=7, lists=None)[0].tolist()) == [-1, 0, 2, 3]


def test_a_row_that_is_marked_twice_is_hidden_from_the_earlier_sequence_on() -> None:
    """And counted once."""
    delta = _delta()
    delta.mark_dead(20, sequence=7)
    delta.mark_dead(20, sequence=9)

    assert (delta.dead, int(delta.dead_at[1])) == (1, 7)


def test_marking_an_unknown_row_says_so() -> None:
    """An id that the delta does not hold is reported, so that the main index is asked."""
    assert not _delta().mark_dead(15, sequence=1)


def test_the_live_rows_above_an_id_can_be_carried_over() -> None:
    """Trimming for a new generation drops what it holds and what is dead."""
    delta = _delta()
    delta.mark_dead(30, sequence=5)

    ids, vectors = delta.rows_after(10)

    assert ids.tolist() == [20, 40]
    np.testing.assert_array_equal(vectors, delta.vectors[[1, 3]])


def test_a_full_delta_refuses_rows() -> None:
    """Nothing is overwritten when the room is used up."""
    with pytest.raises(ValueError, match="do not fit"):
        _delta().append(np.arange(100, 120, dtype=np.int64), unit_vectors(20, 8))
