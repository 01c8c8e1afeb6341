"""The language of filters: what each named value of an experience must be.

A name is a field of the experience (``FIELDS``), ``metadata.<key>``, or, where it is no field, a metadata key. To it
belongs the wanted value, a list of values of which one is wanted, or an object of operators that must all hold:
eq, ne, in, not_in, gt, gte, lt, lte, exists. An experience without the value passes nothing but ``exists: false``.
Numbers are compared with numbers and strings with strings, by code point; so are times in ISO 8601.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from buffer_service.errors import InvalidRequestError

Filter = Mapping[str, Any]

COUNTERS = {
    "id": "ids",
    "sequence": "version",
    "created_at": "created_at",
    "priority": "priority",
    "retrieval_count": "search_retrievals",
    "sample_count": "sample_retrievals",
    "outcome_count": "outcomes",
    "success_count": "successes",
}
"""Fields that are columns of the table, under their names there."""
SUCCESS_RATE = "success_rate"
CONTENT = frozenset({"reward", "confidence", "question", "answer", "image_uri"})
FIELDS = frozenset(COUNTERS) | {SUCCESS_RATE} | CONTENT
METADATA = "metadata."

ORDERED: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_OPERATORS = ("eq", "ne", "in", "not_in", *ORDERED, "exists")
_CONDITIONS_MAX = 32
_VALUES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one value."""

    name: str
    """A field, or ``metadata.<key>``."""
    operator: str
    """One of eq, ne, in, not_in, gt, gte, lt, lte, exists."""
    operand: Any


def parse(wanted: Filter) -> list[Condition]:
    """Return the conditions of a filter; raises InvalidRequestError that names the place."""
    conditions = []
    for given, value in wanted.items():
        name = given if given in FIELDS or given.startswith(METADATA) else METADATA + given
        if isinstance(value, dict):
            conditions += [_condition(name, chosen, operand) for chosen, operand in value.items()]
        elif isinstance(value, list):
            conditions.append(_condition(name, "in", value))
        else:
            conditions.append(_condition(name, "eq", value))
    if len(conditions) > _CONDITIONS_MAX:
        raise InvalidRequestError(f"filter has {len(conditions)} conditions, at most {_CONDITIONS_MAX} are taken")
    return conditions


def _condition(name: str, chosen: str, operand: Any) -> Condition:  # noqa: ANN401 - any JSON value
    if chosen not in _OPERATORS:
        raise InvalidRequestError(f"filter.{name}: unknown operator {chosen!r}; there are {', '.join(_OPERATORS)}")
    if chosen in ("in", "not_in") and not (isinstance(operand, list) and len(operand) <= _VALUES_MAX):
        raise InvalidRequestError(f"filter.{name}: {chosen} takes a list of up to {_VALUES_MAX} values")
    if chosen in ORDERED and (isinstance(operand, bool) or not isinstance(operand, int | float | str)):
        raise InvalidRequestError(f"filter.{name}: {chosen} takes a number or a string")
    if chosen == "exists" and not isinstance(operand, bool):
        raise InvalidRequestError(f"filter.{name}: exists takes true or false")
    return Condition(name, chosen, operand)
