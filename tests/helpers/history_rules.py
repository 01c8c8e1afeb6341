"""The rules that a history must keep, and how a breach is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tests.helpers.history import AnyOperation

_SHOWN_CHARACTERS = 400
_SHOWN_VIOLATIONS = 3


class Rule(StrEnum):
    """What can be broken."""

    REFUSED = "a correct request is not refused"
    IDENTITY = "a key has one id, an id one key"
    INVENTED = "only what was sent is there"
    BATCH = "ids of one append follow each other"
    HALF = "an append is there as a whole or not at all"
    LOST = "what was acknowledged is there"
    UNREPEATABLE = "what was seen is there for later reads"
    REVIVED = "what has gone never comes back"
    FIFO = "only the oldest is evicted"
    CAPACITY = "no more are kept than the capacity"
    ORDER = "ids and sequence numbers rise in real time"
    VERSION = "a row's sequence only rises, and has one priority"
    PRIORITY = "a priority is that of an update that no later one followed"
    STALE = "a conditional update is applied exactly where nothing newer was set"
    COUNTERS = "every outcome is counted once"
    RESTART = "a restart changes nothing"


@dataclass(frozen=True, slots=True)
class Violation:
    """One breach, with the operations that show it."""

    rule: Rule
    text: str
    operations: tuple[AnyOperation, ...]

    def __str__(self) -> str:
        lines = "\n".join(f"    {str(item)[:_SHOWN_CHARACTERS]}" for item in self.operations)
        return f"{self.rule}: {self.text}\n{lines}"


def summary(violations: list[Violation]) -> str:
    """Return how often each rule was broken, and the first breaches of each."""
    by_rule = {rule: [item for item in violations if item.rule is rule] for rule in Rule}
    parts = [
        "\n".join([f"{len(found)} × {rule.name}", *map(str, found[:_SHOWN_VIOLATIONS])])
        for rule, found in by_rule.items()
        if found
    ]
    return "\n\n".join(parts)
