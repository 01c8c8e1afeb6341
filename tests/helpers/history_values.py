"""What a history says about sequence numbers, priorities and counters; part of ``history_checks``.

A priority is a register: a read may return what any update set that was possible by then, unless another update that
was applied lies wholly between the two in time. A counter lies between what was acknowledged before the read began and
what was sent before it ended.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.helpers.history import (
    AnyOperation,
    Append,
    Get,
    Page,
    Remove,
    ReportOutcomes,
    Sample,
    Search,
    Seen,
    SetPriorities,
)
from tests.helpers.history_facts import Facts, Latest
from tests.helpers.history_rules import Rule, Violation


def _reads(facts: Facts) -> Iterator[tuple[Seen, AnyOperation]]:
    for item in facts.history:
        if isinstance(item, Get | Page):
            yield from ((row, item) for row in item.rows)


def sequences(facts: Facts) -> Iterator[Violation]:
    """An operation invoked after another has completed has a higher sequence; an append also higher ids."""
    reads = [(item.completed, row.sequence) for row, item in _reads(facts)]
    told = [item for item in facts.history if item.ok and isinstance(item, Append | Remove | Search)]
    known = Latest([*reads, *((item.completed, item.sequence) for item in told)])
    of_writes: dict[int, AnyOperation] = {}
    for item in told:
        before = known.before(item.invoked)
        # A repeated append is answered with any sequence at which it is visible.
        new = isinstance(item, Remove) or (isinstance(item, Append) and facts.sent[item.keys[0]] == item.invoked)
        if item.sequence < before + new:
            yield Violation(Rule.ORDER, f"sequence {item.sequence} after {before} was known", (item,))
        if new and of_writes.setdefault(item.sequence, item) is not item:
            yield Violation(Rule.ORDER, f"sequence {item.sequence} twice", (of_writes[item.sequence], item))
        if isinstance(item, Append):
            highest = facts.acked_ids.before(facts.sent[item.keys[0]])
            if min(item.ids) <= highest:
                yield Violation(Rule.ORDER, f"id {min(item.ids)} after {highest} was known", (item,))


def versions(facts: Facts) -> Iterator[Violation]:
    """The sequence of a row only rises, and one sequence of a row goes with one priority."""
    met: defaultdict[int, list[tuple[float, float, int, AnyOperation]]] = defaultdict(list)
    priority_of: dict[tuple[int, int], tuple[float, AnyOperation]] = {}
    for row, item in _reads(facts):
        met[row.id].append((item.invoked, item.completed, row.sequence, item))
        priority, first = priority_of.setdefault((row.id, row.sequence), (row.priority, item))
        if priority != row.priority:
            text = f"experience {row.id} has priorities {priority} and {row.priority} at sequence {row.sequence}"
            yield Violation(Rule.VERSION, text, (first, item))
    for sample in facts.history:
        for id_, sequence in sample.draws if isinstance(sample, Sample) else ():
            met[id_].append((sample.invoked, sample.completed, sequence, sample))
    for id_, moments in met.items():
        known = Latest((completed, sequence) for _, completed, sequence, _ in moments)
        for invoked, _, sequence, item in moments:
            if sequence < known.before(invoked):
                text = f"experience {id_} is at sequence {sequence}, and was at {known.before(invoked)}"
                yield Violation(Rule.VERSION, text, (item,))
    yield from _conditions(facts, {id_: Latest((at[1], at[2]) for at in moments) for id_, moments in met.items()})


def _conditions(facts: Facts, known: dict[int, Latest]) -> Iterator[Violation]:
    """Check what became of the updates that named a sequence."""
    applied: dict[tuple[int, int], SetPriorities] = {}
    possible = _updates(facts)
    for item in facts.history:
        if not isinstance(item, SetPriorities) or not item.ok:
            continue
        for (id_, _, sequence), status in zip(item.updates, item.statuses, strict=True):
            if sequence is not None and status == "applied":
                first = applied.setdefault((id_, sequence), item)
                if first is not item:
                    yield Violation(Rule.STALE, f"{id_} was updated twice as of {sequence}", (first, item))
                newest = known[id_].before(item.invoked) if id_ in known else 0
                if newest > sequence:
                    yield Violation(Rule.STALE, f"{id_} was updated as of {sequence}, it was at {newest}", (item,))
            elif status == "stale" and (
                sequence is None
                or not any(other.item is not item and other.invoked < item.completed for other in possible[id_])
            ):
                yield Violation(Rule.STALE, f"update of {id_} is called stale, but there was no other", (item,))


@dataclass(frozen=True, slots=True)
class _Update:
    priority: float
    invoked: float
    effective_until: float
    applied: bool
    item: AnyOperation | None


def _updates(facts: Facts) -> defaultdict[int, list[_Update]]:
    """Return for each id the updates that were applied or may have been."""
    found: defaultdict[int, list[_Update]] = defaultdict(list)
    for item in facts.history:
        if isinstance(item, SetPriorities) and item.possible:
            statuses = item.statuses if item.ok else ["unknown"] * len(item.updates)
            for (id_, priority, _), status in zip(item.updates, statuses, strict=True):
                if status in {"applied", "unknown"}:
                    update = _Update(priority, item.invoked, item.effective_until, status == "applied", item)
                    found[id_].append(update)
    return found


def priorities(facts: Facts) -> Iterator[Violation]:
    """A priority that is read is that of an update, or the initial one, that no applied update followed."""
    updates = _updates(facts)
    initial = _Update(facts.setup.initial_priority, -math.inf, -math.inf, applied=True, item=None)
    for row, item in _reads(facts):
        of_row = updates[row.id]
        candidates = [
            update
            for update in (initial, *of_row)
            if update.priority == row.priority and update.invoked < item.completed
        ]
        if not candidates:
            yield Violation(Rule.PRIORITY, f"nobody gave experience {row.id} the priority {row.priority}", (item,))
            continue
        later = [update for update in of_row if update.applied and update.effective_until < item.invoked]
        over = [
            next((update for update in later if update.invoked > candidate.effective_until), None)
            for candidate in candidates
        ]
        if all(over):
            shown = tuple(update.item for update in (*candidates[-1:], *over[-1:]) if update and update.item)
            yield Violation(Rule.PRIORITY, f"experience {row.id} is back at {row.priority}", (*shown, item))


@dataclass(slots=True)
class _Report:
    """All attempts with one request_id. ``counted`` are the outcomes that count if it was carried out."""

    invoked: float
    acked: float
    counted: list[tuple[int, bool]]


def counters(facts: Facts) -> Iterator[Violation]:
    """Outcomes of one request_id count once, and a repetition is answered like the first."""
    reports: dict[str, _Report] = {}
    answers: dict[str, ReportOutcomes] = {}
    for item in facts.history:
        if not isinstance(item, ReportOutcomes) or not item.possible:
            continue
        report = reports.setdefault(item.request_id, _Report(item.invoked, math.inf, item.outcomes))
        if item.ok:
            first = answers.setdefault(item.request_id, item)
            if first.statuses != item.statuses:
                yield Violation(Rule.COUNTERS, "a repeated report was answered otherwise", (first, item))
            told = zip(item.outcomes, item.statuses, strict=True)
            report.counted = [outcome for outcome, status in told if status == "applied"]
            report.acked = min(report.acked, item.completed)
    of_id: defaultdict[int, list[tuple[_Report, bool]]] = defaultdict(list)
    for report in reports.values():
        for id_, success in report.counted:
            of_id[id_].append((report, success))
    for row, item in _reads(facts):
        yield from _counts(row, item, of_id[row.id])


def _counts(row: Seen, item: AnyOperation, reports: list[tuple[_Report, bool]]) -> Iterator[Violation]:
    for what, count, wanted in (("outcomes", row.outcomes, {True, False}), ("successes", row.successes, {True})):
        least = sum(report.acked < item.invoked and success in wanted for report, success in reports)
        most = sum(report.invoked < item.completed and success in wanted for report, success in reports)
        if not least <= count <= most:
            text = f"experience {row.id} counts {count} {what}, {least} to {most} were reported"
            yield Violation(Rule.COUNTERS, text, (item,))
    if row.successes > row.outcomes:
        yield Violation(Rule.COUNTERS, f"experience {row.id} has more successes than outcomes", (item,))
