"""Finds what a history contradicts: a pure function of all operations, the reads of the recovered state among them.

``check`` covers identity and life: who got which id, who is there, who has gone. What an experience holds is in
``history_values``. A rule is broken only where no order of the operations that their times allow would keep it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.helpers.history import AnyOperation, History, Page, Remove, Sample, Search
from tests.helpers.history_facts import SAME_SCORE, Facts, Setup, Sighting
from tests.helpers.history_rules import Rule, Violation
from tests.helpers.history_values import counters, priorities, sequences, versions

_HARMLESS = frozenset({"", "evicted-experience", "overloaded", "backlog", "outcome-unknown"})
"""Refusals that any client may meet; whatever else was answered to a correct request is a violation."""


def check(history: History, setup: Setup) -> list[Violation]:
    """Return every violation once; the history must end with reads of the state that was recovered."""
    facts = Facts(history, setup)
    rules = (refusals, identity, batches, snapshots, losses, revivals, order_of_eviction, capacity)
    values = (sequences, versions, priorities, counters)
    every = [found for rule in (*rules, *values) for found in rule(facts)]
    return list({(found.rule, found.text): found for found in reversed(every)}.values())[::-1]


def same_state(before: Page, after: Page) -> list[Violation]:
    """Return what differs between two reads of everything with no write in between."""
    first, second = ({row.id: row for row in page.rows} for page in (before, after))
    return [
        Violation(Rule.RESTART, f"experience {id_} was {first.get(id_)} and is {second.get(id_)}", (before, after))
        for id_ in sorted(first.keys() | second.keys())
        if first.get(id_) != second.get(id_)
    ]


def refusals(facts: Facts) -> Iterator[Violation]:
    """A correct request is not refused, and an id that was given out is not called unknown."""
    for item in facts.history:
        if item.refusal not in _HARMLESS:
            yield Violation(Rule.REFUSED, f"answered {item.refusal}", (item,))


def identity(facts: Facts) -> Iterator[Violation]:
    """One key has one id and one id one key, for ever; only what was sent is there, and ids are dense."""
    ids: dict[str, tuple[int, AnyOperation]] = {}
    keys: dict[int, tuple[str, AnyOperation]] = {}
    for id_, key, item in _named(facts):
        other_id, first = ids.setdefault(key, (id_, item))
        if other_id != id_:
            yield Violation(Rule.IDENTITY, f"key {key} had id {other_id} and then {id_}", (first, item))
        other_key, first = keys.setdefault(id_, (key, item))
        if other_key != key:
            yield Violation(Rule.IDENTITY, f"id {id_} was of key {other_key} and then of {key}", (first, item))
        sent = facts.sent.get(key)
        if sent is None or sent >= item.completed:
            yield Violation(Rule.INVENTED, f"key {key} was not sent before it was there as {id_}", (item,))
    for seen in facts.sightings:
        if seen.id > facts.issued_before(seen.completed):
            yield Violation(Rule.INVENTED, f"id {seen.id} is higher than the number of appends", (seen.operation,))
    for item in facts.history:
        for row in item.rows if isinstance(item, Page) else ():
            if row.content != row.key:
                yield Violation(
                    Rule.IDENTITY, f"id {row.id} of key {row.key} has the content of {row.content}", (item,)
                )


def _named(facts: Facts) -> Iterator[tuple[int, str, AnyOperation]]:
    for item in facts.appends:
        if item.ok:
            yield from ((id_, key, item) for id_, key in zip(item.ids, item.keys, strict=True))
    yield from ((seen.id, seen.key, seen.operation) for seen in facts.sightings if seen.key is not None)


def batches(facts: Facts) -> Iterator[Violation]:
    """The ids of one append follow each other in its order, wherever they are met."""
    first: dict[tuple[str, ...], tuple[int, AnyOperation]] = {}
    for id_, key, item in _named(facts):
        keys, place = facts.batches.get(key, ((key,), 0))
        start, other = first.setdefault(keys, (id_ - place, item))
        if start != id_ - place:
            yield Violation(Rule.BATCH, f"key {key} is {id_}, but its append began with {start}", (other, item))


def snapshots(facts: Facts) -> Iterator[Violation]:
    """No read meets a part of an append while nothing can have taken the rest."""
    for item in facts.history:
        if not item.ok or not isinstance(item, Search | Page):
            continue
        there = _present(item)
        for key, id_ in there.items():
            for name, sibling in facts.siblings(key, id_):
                if name in there or not _asked(item, name, sibling) or facts.maybe_gone(sibling) < item.completed:
                    continue
                yield Violation(Rule.HALF, f"{key} is there as {id_}, {name} of the same append is not", (item,))


def _present(item: Search | Page) -> dict[str, int]:
    if isinstance(item, Page):
        return {row.key: row.id for row in item.rows}
    answers = zip(item.keys, item.hits, strict=True)
    return {key: hits[0][0] for key, hits in answers if hits and hits[0][1] >= SAME_SCORE}


def _asked(item: Search | Page, key: str, id_: int) -> bool:
    if isinstance(item, Search):
        return key in item.keys
    return item.cursor <= id_ and (item.following is None or id_ < item.following)


def losses(facts: Facts) -> Iterator[Violation]:
    """What was acknowledged, or seen, is there until something can have taken it."""
    for absent in facts.absences:
        if facts.maybe_gone(absent.id) >= absent.completed:
            acked = facts.acked.get(absent.id, absent.completed) < absent.invoked
            rule = Rule.LOST if acked else Rule.UNREPEATABLE
            yield Violation(rule, f"experience {absent.id} was not there", _witnesses(facts, absent))


def revivals(facts: Facts) -> Iterator[Violation]:
    """What has gone is never met again, and leaves once."""
    removals: dict[int, Remove] = {}
    for item in facts.history:
        if isinstance(item, Remove) and item.ok:
            first = removals.setdefault(item.id, item)
            if first is not item:
                yield Violation(Rule.REVIVED, f"experience {item.id} was removed twice", (first, item))
    for seen in facts.sightings:
        if facts.gone.get(seen.id, seen.invoked) < seen.invoked:
            yield Violation(Rule.REVIVED, f"experience {seen.id} had gone", _witnesses(facts, seen))
        elif facts.surely_evicted(seen.id, seen.invoked):
            yield Violation(Rule.REVIVED, f"experience {seen.id} was beyond the capacity", (seen.operation,))


def _witnesses(facts: Facts, moment: Sighting) -> tuple[AnyOperation, ...]:
    """Return the operation and, where there is one, the last before it that says the contrary."""
    others = [*facts.sightings, *facts.absences]
    found = [other.operation for other in others if other.id == moment.id and other.completed < moment.invoked]
    known = [item for item in facts.appends if moment.id in item.ids]
    return (*known[:1], *sorted(found, key=lambda item: item.completed)[-2:], moment.operation)


def order_of_eviction(facts: Facts) -> Iterator[Violation]:
    """Only the oldest is evicted: where one has been that nobody removed, no older one is met later.

    The rows of one page are read one after the other, so that what leaves meanwhile may be missing in its middle.
    """
    for seen in facts.sightings:
        evicted = facts.evicted.before(seen.invoked)
        if seen.id < evicted:
            yield Violation(Rule.FIFO, f"{evicted} was evicted before {seen.id}", (seen.operation,))
    for item in facts.history:
        if isinstance(item, Page):
            ids = [row.id for row in item.rows]
            if ids != sorted(set(ids)):
                yield Violation(Rule.FIFO, "a page is not in order of age", (item,))


def capacity(facts: Facts) -> Iterator[Violation]:
    """No more are kept than the capacity."""
    for item in facts.history:
        count = len(item.rows) if isinstance(item, Page) else item.table_size if isinstance(item, Sample) else 0
        if count > facts.setup.capacity:
            yield Violation(Rule.CAPACITY, f"{count} experiences are kept", (item,))
