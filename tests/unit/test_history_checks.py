"""The checker of histories finds each violation that is planted, and nothing in histories that keep the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.history import (
    Append,
    Get,
    Outcome,
    Search,
    Seen,
    encode_operation,
    read_histories,
)
from tests.helpers.history_checks import check, same_state
from tests.helpers.history_rules import Rule, summary
from tests.helpers.history_stories import (
    FIRST,
    PAIR,
    SECOND,
    SET_7,
    SMALL,
    THIRD,
    UNKNOWN,
    Case,
    appended,
    at,
    drawn,
    gone,
    got,
    page,
    prioritised,
    removed,
    reported,
    row,
    searched,
    unanswered,
)

KEPT = [
    Case("all that was acknowledged is there", [FIRST, SECOND, page(3, row(1, "a"), row(2, "b", 2))]),
    Case("a lost answer was done", [unanswered(1, "a"), page(3, row(1, "a"))]),
    Case("a lost answer was not done", [unanswered(1, "a"), page(3)]),
    Case("a lost answer is done late", [unanswered(1, "a"), page(3), page(4, row(1, "a"))]),
    Case(
        "a lost answer is repeated",
        [unanswered(1, "a"), appended(2, "a", ids=[1], sequence=1), page(3, row(1, "a"))],
    ),
    Case("a repetition is answered with an earlier sequence", [FIRST, SECOND, appended(3, "a", ids=[1], sequence=2)]),
    Case("a lost removal was done", [FIRST, removed(2, 1, outcome=UNKNOWN), page(3)]),
    Case("a lost removal was not done", [FIRST, removed(2, 1, outcome=UNKNOWN), page(3, row(1, "a"))]),
    Case("a removal beside a read may come first", [FIRST, removed(2, 1, 2), searched(2.1, {"a": None}, 2)]),
    Case("a removal beside a read may come last", [FIRST, removed(2, 1, 2), searched(2.1, {"a": 1}, 1)]),
    Case(
        "an append beside a search need not be found",
        [searched(1, {"a": None}, 0), appended(1.2, "a", ids=[1], sequence=1)],
    ),
    Case("a part of an append was removed", [PAIR, removed(2, 1, 3), page(3, row(2, "b", 2))]),
    Case("the oldest is evicted", [PAIR, THIRD, gone(4, 1), page(5, row(2, "b", 2), row(3, "c", 3))], setup=SMALL),
    Case(
        "a removal makes room, so that the oldest stays",
        [PAIR, removed(2, 2, 3), THIRD, page(4, row(1, "a"), row(3, "c", 4))],
        setup=SMALL,
    ),
    Case("the last priority", [FIRST, prioritised(2, 0.5), prioritised(3, 0.7), page(4, row(1, "a", 3, 0.7))]),
    Case(
        "either of two priorities set at once",
        [FIRST, prioritised(2, 0.5), prioritised(2.1, 0.7), page(4, row(1, "a", 3, 0.5))],
    ),
    Case("a lost update is done late", [FIRST, SET_7, prioritised(3, 0.5), page(4, row(1, "a", 3, 0.7))]),
    Case(
        "a condition that holds",
        [FIRST, drawn(2, (1, 1)), prioritised(3, 0.5, sequence=1), page(4, row(1, "a", 2, 0.5))],
    ),
    Case(
        "a condition that does not hold",
        [FIRST, prioritised(2, 0.5), prioritised(3, 0.7, "stale", 1), page(4, row(1, "a", 2, 0.5))],
    ),
    Case(
        "a repeated report counts once",
        [
            FIRST,
            reported(2, "r", "", success=True),
            reported(3, "r", success=True),
            page(4, row(1, "a", outcomes=1, successes=1)),
        ],
    ),
    Case("a lost report was not done", [FIRST, reported(2, "r", "", success=True), page(4, row(1, "a"))]),
    Case(
        "a repetition is told what was there at first",
        [FIRST, reported(2, "r"), removed(3, 1, 3), reported(4, "r"), page(5)],
    ),
]

BROKEN = [
    Case("an acknowledged append is missing", [FIRST, page(3)], Rule.LOST),
    Case("an acknowledged append is called gone", [FIRST, gone(3, 1)], Rule.LOST),
    Case("an acknowledged append is not found", [FIRST, searched(3, {"a": None}, 1)], Rule.LOST),
    Case("another is nearest", [FIRST, SECOND, searched(3, {"a": 2}, 2)], Rule.IDENTITY),
    Case(
        "it is only second",
        [FIRST, SECOND, Search(**at(3), keys=["a"], hits=[[(2, 0.9), (1, 0.8)]], sequence=2)],
        Rule.LOST,
    ),
    Case(
        "it was gone before its removal was asked for",
        [FIRST, searched(2, {"a": None}, 1), removed(3, 1, 2)],
        Rule.LOST,
    ),
    Case("what was drawn is not found", [unanswered(1, "a"), drawn(2, (1, 1)), page(3)], Rule.UNREPEATABLE),
    Case(
        "an acknowledged id is called unknown",
        [FIRST, Get(**at(3, outcome=Outcome.FAIL), refusal="unknown-experience", id=1)],
        Rule.REFUSED,
    ),
    Case(
        "a repetition is called a conflict",
        [FIRST, Append(**at(3, outcome=Outcome.FAIL), refusal="conflict", keys=["a"])],
        Rule.REFUSED,
    ),
    Case(
        "the acknowledged sequence is not reached",
        [FIRST, Search(**at(3, outcome=Outcome.FAIL), refusal="sequence-not-reached", keys=["a"])],
        Rule.REFUSED,
    ),
    Case("half of an append is recovered", [unanswered(1, "a", "b"), page(3, row(1, "a"))], Rule.HALF),
    Case("half of an append is found", [unanswered(1, "a", "b"), searched(1.1, {"a": None, "b": 2}, 2)], Rule.HALF),
    Case("a repetition has another id", [FIRST, appended(2, "a", ids=[2], sequence=2)], Rule.IDENTITY),
    Case(
        "a lost answer is there twice",
        [unanswered(1, "a"), unanswered(2, "a"), page(3, row(1, "a"), row(2, "a", 2))],
        Rule.IDENTITY,
    ),
    Case("an id is used again", [FIRST, removed(2, 1, 2), appended(3, "b", ids=[1], sequence=3)], Rule.IDENTITY),
    Case(
        "the content is another's",
        [FIRST, page(3, Seen(id=1, key="a", content="b", sequence=1, priority=0.2))],
        Rule.IDENTITY,
    ),
    Case("nobody sent it", [FIRST, page(3, row(1, "a"), row(2, "z", 2))], Rule.INVENTED),
    Case(
        "it was refused",
        [FIRST, Append(**at(2, outcome=Outcome.FAIL), keys=["b"]), page(3, row(1, "a"), row(2, "b", 2))],
        Rule.INVENTED,
    ),
    Case(
        "it is there before it was sent",
        [searched(1, {"a": 1}, 1), appended(2, "a", ids=[1], sequence=1)],
        Rule.INVENTED,
    ),
    Case("an id is left out", [FIRST, appended(2, "b", ids=[3], sequence=2), drawn(3, (3, 2))], Rule.INVENTED),
    Case("an append is torn apart", [PAIR, SECOND, appended(1.2, "c", "d", ids=[3, 5], sequence=9)], Rule.BATCH),
    Case("it is found after its removal", [FIRST, removed(2, 1, 2), searched(3, {"a": 1}, 2)], Rule.REVIVED),
    Case("it is drawn after its removal", [FIRST, removed(2, 1, 2), drawn(3, (1, 1))], Rule.REVIVED),
    Case("it is read after its removal", [FIRST, removed(2, 1, 2), got(3, row(1, "a"))], Rule.REVIVED),
    Case("it is recovered after its removal", [FIRST, removed(2, 1, 2), page(3, row(1, "a"))], Rule.REVIVED),
    Case(
        "it is read after it was called gone",
        [FIRST, removed(2, 1, outcome=UNKNOWN), gone(3, 1), got(4, row(1, "a"))],
        Rule.REVIVED,
    ),
    Case("it is changed after its removal", [FIRST, removed(2, 1, 2), prioritised(3, 0.5)], Rule.REVIVED),
    Case("it is removed twice", [FIRST, removed(2, 1, 2), removed(2.1, 1, 3)], Rule.REVIVED),
    Case("it is drawn after its eviction", [PAIR, THIRD, drawn(4, (1, 1))], Rule.REVIVED, SMALL),
    Case(
        "a younger one is evicted",
        [PAIR, THIRD, page(4, row(1, "a"), row(3, "c", 3)), drawn(5, (1, 1))],
        Rule.FIFO,
        SMALL,
    ),
    Case(
        "an older one is met after a younger was evicted",
        [PAIR, unanswered(2, "c", "d"), gone(3, 2), drawn(4, (1, 1))],
        Rule.FIFO,
        SMALL,
    ),
    Case("more are kept than there is room for", [PAIR, drawn(2, table_size=3)], Rule.CAPACITY, SMALL),
    Case("it is evicted though there is room", [PAIR, gone(3, 1)], Rule.LOST, SMALL),
    Case("a later append has a lower sequence", [SECOND, appended(3, "c", ids=[3], sequence=1)], Rule.ORDER),
    Case("two appends have one sequence", [FIRST, appended(1.1, "b", ids=[2], sequence=1)], Rule.ORDER),
    Case(
        "a later append has a lower id",
        [appended(1, "b", ids=[2], sequence=1), appended(2, "a", ids=[1], sequence=2)],
        Rule.ORDER,
    ),
    Case(
        "a later search is of an earlier moment",
        [FIRST, searched(2, {"a": 1}, 5), searched(3, {"a": 1}, 4)],
        Rule.ORDER,
    ),
    Case("a search is older than an acknowledged append", [FIRST, SECOND, searched(3, {"a": 1}, 1)], Rule.ORDER),
    Case(
        "a row's sequence falls",
        [FIRST, prioritised(1.1, 0.5), drawn(2, (1, 3)), got(3, row(1, "a", 2, 0.5))],
        Rule.VERSION,
    ),
    Case(
        "one sequence has two priorities",
        [FIRST, SET_7, got(3, row(1, "a", 3, 0.7)), got(3.1, row(1, "a", 3))],
        Rule.VERSION,
    ),
    Case("an acknowledged priority is lost", [FIRST, prioritised(2, 0.5), page(4, row(1, "a"))], Rule.PRIORITY),
    Case(
        "an earlier priority is back",
        [FIRST, prioritised(2, 0.5), prioritised(3, 0.7), page(4, row(1, "a", 3, 0.5))],
        Rule.PRIORITY,
    ),
    Case("nobody gave it that priority", [FIRST, page(4, row(1, "a", 3, 0.9))], Rule.PRIORITY),
    Case(
        "a stale update was applied",
        [FIRST, prioritised(2, 0.7, "stale", 1), SET_7, page(4, row(1, "a", 3, 0.9))],
        Rule.PRIORITY,
    ),
    Case(
        "two updates as of one sequence",
        [FIRST, prioritised(2, 0.5, sequence=1), prioritised(2.1, 0.7, sequence=1)],
        Rule.STALE,
    ),
    Case(
        "an update as of an old sequence",
        [FIRST, prioritised(2, 0.5), drawn(3, (1, 2)), prioritised(4, 0.7, sequence=1)],
        Rule.STALE,
    ),
    Case("an update is stale for no reason", [FIRST, prioritised(2, 0.5, "stale", 1)], Rule.STALE),
    Case("an unconditional update is stale", [FIRST, SET_7, prioritised(3, 0.5, "stale")], Rule.STALE),
    Case("an acknowledged outcome is lost", [FIRST, reported(2, "r"), page(4, row(1, "a"))], Rule.COUNTERS),
    Case(
        "an acknowledged success is lost",
        [FIRST, reported(2, "r", success=True), page(4, row(1, "a", outcomes=1))],
        Rule.COUNTERS,
    ),
    Case(
        "a repeated report counts twice",
        [FIRST, reported(2, "r", ""), reported(3, "r"), page(4, row(1, "a", outcomes=2))],
        Rule.COUNTERS,
    ),
    Case(
        "an outcome is counted before it is sent",
        [FIRST, got(2, row(1, "a", outcomes=1)), reported(3, "r")],
        Rule.COUNTERS,
    ),
    Case(
        "a repeated report is answered otherwise",
        [FIRST, removed(1.6, 1, outcome=UNKNOWN), reported(2, "r"), reported(3, "r", "evicted")],
        Rule.COUNTERS,
    ),
]


@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.name)
def test_a_history_that_keeps_the_rules_passes(case: Case) -> None:
    """Nothing is found where some order of the operations explains every answer."""
    found = check(case.history, case.setup)

    assert not found, summary(found)


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_a_planted_violation_is_found(case: Case) -> None:
    """The rule that is broken is named, with the operations that show it."""
    found = check(case.history, case.setup)

    assert case.broken in {item.rule for item in found}, summary(found)
    assert all(item.operations for item in found)


def test_every_rule_has_a_planted_violation() -> None:
    """A rule that no test breaks might as well not be checked."""
    assert {case.broken for case in BROKEN} == set(Rule) - {Rule.RESTART}


def test_a_restart_that_changes_something_is_found() -> None:
    """A row that came, went or changed is named."""
    before = page(1, row(1, "a"), row(2, "b"))

    assert same_state(before, before) == []
    assert [item.rule for item in same_state(before, page(2, row(1, "a", 5)))] == [Rule.RESTART] * 2


def test_a_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """The files of several processes become one history, by the time of invocation."""
    (tmp_path / "0").write_bytes(encode_operation(SECOND) + encode_operation(prioritised(4, 0.5, sequence=1)))
    (tmp_path / "1").write_bytes(encode_operation(FIRST) + encode_operation(page(3, row(1, "a"))))

    history = read_histories([tmp_path / "0", tmp_path / "1"])

    assert history == [FIRST, SECOND, page(3, row(1, "a")), prioritised(4, 0.5, sequence=1)]
