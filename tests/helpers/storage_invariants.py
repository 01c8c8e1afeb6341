"""What must hold of a store after any recovery, in one place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from buffer_service.storage.base import Store
from tests.helpers.storage_model import Model, model_of


def check_recovered(store: Store, acknowledged: Model, in_doubt: Sequence[Model] = ()) -> Model:
    """Everything acknowledged is there, and beyond it whole in-doubt groups alone; returns which state it is.

    ``in_doubt`` are the states after each group that was begun but neither acknowledged nor refused.
    """
    found = model_of(store)
    expected = {state.sequence: state for state in (acknowledged, *in_doubt)}
    assert found.sequence in expected, (
        f"sequence {found.sequence} was recovered, {acknowledged.sequence} acknowledged, "
        f"{[state.sequence for state in in_doubt]} in doubt"
    )
    assert found == expected[found.sequence]
    assert list(found.requests) == list(expected[found.sequence].requests), "requests are forgotten from the oldest on"
    assert list(found.retired) == list(expected[found.sequence].retired), "and so are client ids of what has gone"
    check_consistent(store)
    return found


def check_consistent(store: Store) -> None:
    """The parts of a store agree with each other."""
    table = store.table
    ids = table.live_ids()
    assert np.all(np.diff(ids) > 0), "ids rise, so order of id is order of age"
    assert len(ids) == len(table) == len(table.slots)
    assert all(int(table.ids[slot]) == experience for experience, slot in table.slots.items())
    assert ids.size == 0 or (table.oldest_id() == ids[0] and ids[-1] < table.header.next_id)
    clients = {row.client_id: row.id for row in table.rows() if row.client_id is not None}
    assert table.client_ids == clients
    assert all(row.version <= table.header.sequence for row in table.rows())
