"""The table: images of it, and slots that are used again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from buffer_service.storage.rows import Header, RequestAnswer, Row
from buffer_service.storage.table import Table, remember


def row(experience: int, client_id: str | None = None) -> Row:
    """Return a row whose values tell it from others."""
    return Row(experience, experience + 100, experience / 2, experience / 4, client_id, b"f%d" % experience, place=9)


def filled(count: int) -> Table:
    """Return a table of so many rows."""
    table = Table(header=Header(sequence=count, next_id=count + 1))
    for experience in range(1, count + 1):
        table.put(row(experience, f"client-{experience}"))
    return table


def test_a_restored_table_equals_the_one_it_was_taken_from() -> None:
    """Rows, header, names and answers are the same, and both can be changed without the other."""
    table = filled(3000)
    for experience in range(1, 3000, 3):
        table.drop(experience)
    remember(table.requests, {"b": RequestAnswer(b"f", b"a"), "a": RequestAnswer(b"g", b"c")})
    remember(table.retired, {"d": RequestAnswer(b"f", b"1"), "c": RequestAnswer(b"g", b"2")})
    copy = Table.restored(table.image())
    assert list(copy.rows()) == list(table.rows())
    assert [found.place for found in copy.rows()] == [found.place for found in table.rows()]
    assert copy.header == table.header
    assert copy.client_ids == table.client_ids
    assert list(copy.requests.items()) == list(table.requests.items())
    assert list(copy.retired.items()) == list(table.retired.items())
    copy.put(row(3001))
    copy.drop(2)
    copy.header.sequence += 1
    assert table.row(2) == row(2, "client-2")
    assert table.header.sequence == 3000
    assert copy.row(3001) == row(3001)
    assert copy.oldest_id() == 3


def test_an_empty_table_is_restored_empty() -> None:
    """The next rows go into it as into a new one."""
    table = Table.restored(Table(header=Header(5, 9)).image())
    assert len(table) == 0
    table.put(row(9))
    assert table.live_ids().tolist() == [9]
    assert table.oldest_id() == 9


def test_slots_of_dropped_rows_are_used_again() -> None:
    """The columns grow with the largest number of live rows, not with the number of appends."""
    table = filled(1000)
    slots = table.slot_count
    for experience in range(1001, 5001):
        table.drop(experience - 1000)
        table.put(row(experience))
    table.header = Header(sequence=5000, next_id=5001)
    assert table.slot_count == slots
    assert np.array_equal(table.live_ids(), np.arange(4001, 5001))
    assert table.ids_from(4500, 3) == [4500, 4501, 4502]


def test_slots_of_many_rows_are_those_of_each() -> None:
    """Also of rows far apart, whose ids share their low bits, and after a restore; -1 for what is not live."""
    table = filled(3000)
    for experience in [*range(1, 3000, 3), *range(100, 200)]:
        table.drop(experience)
    far = [*range(2**20, 2**20 + 50), *range(2**40, 2**40 + 50)]
    for experience in far:
        table.put(row(experience))
    asked = np.array([*range(-2, 3050), *far, 2**20 - 1, 2**62], np.int64)
    for made in (table, Table.restored(table.image())):
        expected = [made.slots.get(experience, -1) for experience in asked.tolist()]
        assert made.slots_of(asked).tolist() == expected
        assert made.slots_of(asked[:0]).tolist() == []


def test_ids_leave_out_what_is_being_published() -> None:
    """The header comes last: until then no row of the group is listed, so no append is seen by half."""
    table = filled(5)
    table.put(row(6))
    assert table.ids_from(1, 10) == [1, 2, 3, 4, 5]
    table.header = Header(sequence=7, next_id=7)
    assert table.ids_from(4, 10) == [4, 5, 6]


def test_a_table_may_grow_while_its_ids_are_read() -> None:
    """What is read is of one moment: neither an error nor a mixture."""
    table = filled(20)

    class Growing(np.ndarray):  # type: ignore[type-arg]
        def __ge__(self, other: object) -> Any:  # noqa: ANN401
            table._grow(2 * table.slot_count)
            return np.asarray(self) >= other  # type: ignore[operator]

        def __gt__(self, other: object) -> Any:  # noqa: ANN401
            table._grow(2 * table.slot_count)
            return np.asarray(self) > other  # type: ignore[operator]

    table.ids = table.ids.view(Growing)
    assert table.ids_from(3, 2) == [3, 4]
    table.ids = table.ids.view(Growing)
    assert table.live_ids().tolist() == list(range(1, 21))


def test_rows_of_many_are_the_row_of_each() -> None:
    """In the order asked for and as often, few or many at once; nothing for what is not there."""
    table = filled(60)
    for number, experience in enumerate(range(1, 61)):
        changed = replace(
            row(experience, None if number % 3 else f"client-{experience}"), successes=number, outcomes=99
        )
        table.put(replace(changed, search_retrievals=2 * number, sample_retrievals=3 * number, place=5 * number))
    table.drop(7)
    for asked in ([], [7], [3, 61, 3], [*range(70, 0, -1), 3]):
        each = [found for experience in asked if (found := table.row(experience)) is not None]
        found = table.rows_of(asked)
        assert found == each
        assert [item.place for item in found] == [item.place for item in each]
    table.rows_of([3])[0].priority = -1.0
    assert table.row(3) == table.rows_of(list(range(1, 31)))[2]
