"""What small histories are made of by hand, for the tests of their checker. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.helpers.history import (
    AnyOperation,
    Append,
    Get,
    Outcome,
    Page,
    Remove,
    ReportOutcomes,
    Sample,
    Search,
    Seen,
    SetPriorities,
)
from tests.helpers.history_facts import Setup
from tests.helpers.history_rules import Rule

ROOMY = Setup(capacity=1000, initial_priority=0.2)
SMALL = Setup(capacity=2, initial_priority=0.2)
UNKNOWN = Outcome.UNKNOWN


def at(time: float, outcome: Outcome = Outcome.OK) -> dict[str, Any]:
    """Return who and when: by default an operation that took half a second."""
    return {"process": 0, "invoked": time, "completed": time + 0.5, "outcome": outcome}


def appended(time: float, *keys: str, ids: list[int], sequence: int) -> Append:
    """Return an append that was answered."""
    return Append(**at(time), keys=list(keys), ids=ids, sequence=sequence)


def unanswered(time: float, *keys: str) -> Append:
    """Return an append whose answer was lost."""
    return Append(**at(time, outcome=UNKNOWN), keys=list(keys))


def row(id_: int, key: str, sequence: int = 1, priority: float = 0.2, outcomes: int = 0, successes: int = 0) -> Seen:
    """Return what is read of one experience."""
    return Seen(
        id=id_, key=key, content=key, sequence=sequence, priority=priority, outcomes=outcomes, successes=successes
    )


def page(time: float, *rows: Seen, cursor: int = 0, following: int | None = None) -> Page:
    """Return a read of everything, or of a page."""
    return Page(**at(time), cursor=cursor, following=following, rows=list(rows))


def got(time: float, row: Seen) -> Get:
    """Return a read of one."""
    return Get(**at(time), id=row.id, rows=[row])


def gone(time: float, id_: int) -> Get:
    """Return a read that was told that the experience has gone."""
    return Get(**at(time, outcome=Outcome.FAIL), refusal="evicted-experience", id=id_)


def removed(time: float, id_: int, sequence: int = 0, outcome: Outcome = Outcome.OK) -> Remove:
    """Return a removal."""
    return Remove(**at(time, outcome=outcome), id=id_, sequence=sequence)


def searched(time: float, found: dict[str, int | None], sequence: int) -> Search:
    """Return a search for keys: the id that has the very vector, or None where only something else is near."""
    hits = [[] if id_ is None else [(id_, 1.0)] for id_ in found.values()]
    return Search(**at(time), keys=list(found), hits=hits, sequence=sequence)


def drawn(time: float, *draws: tuple[int, int], table_size: int = 1) -> Sample:
    """Return a draw of (id, sequence)."""
    return Sample(**at(time), draws=list(draws), table_size=table_size)


def prioritised(time: float, priority: float, status: str = "applied", sequence: int | None = None) -> SetPriorities:
    """Return an update of the priority of experience 1."""
    return SetPriorities(**at(time), updates=[(1, priority, sequence)], statuses=[status])


def reported(time: float, name: str, status: str = "applied", *, success: bool = False) -> ReportOutcomes:
    """Return a report on experience 1; an empty status stands for a lost answer."""
    outcome = Outcome.OK if status else Outcome.UNKNOWN
    told = [status] if status else []
    return ReportOutcomes(**at(time, outcome=outcome), request_id=name, outcomes=[(1, success)], statuses=told)


FIRST = appended(1, "a", ids=[1], sequence=1)
SECOND = appended(2, "b", ids=[2], sequence=2)
THIRD = appended(3, "c", ids=[3], sequence=4)
PAIR = appended(1, "a", "b", ids=[1, 2], sequence=2)
SET_7 = SetPriorities(**at(2, outcome=UNKNOWN), updates=[(1, 0.7, None)])


@dataclass(frozen=True)
class Case:
    """A history, and the rule that it breaks."""

    name: str
    history: list[AnyOperation]
    broken: Rule | None = None
    setup: Setup = ROOMY
