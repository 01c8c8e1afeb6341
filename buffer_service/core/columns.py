"""Values of experiences by column, so that a filter is a few passes over arrays.

What is counted is in the store's table already. What an experience was given (reward, metadata and so on) never
changes, so it is read from the store once, when a filter first asks for it, and kept for as long as the column is in
use. Any thread may ask; the appends are not held up.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_service.core.conditions import COUNTERS, METADATA, ORDERED, SUCCESS_RATE, Condition
from buffer_service.core.experience import Content, decode_content
from buffer_service.index.candidates import Mask
from buffer_service.index.metric import Ids
from buffer_service.index.view import Allowed
from buffer_service.storage.base import Store

_COLUMNS_MAX = 32
"""Columns kept; the one used longest ago goes first."""
_READ_ROWS = 1000
_FIRST_ROWS = 1024
_MISSING = -1

Numbers = npt.NDArray[np.float64]


class Columns:
    """The columns of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._columns: OrderedDict[str, _Column] = OrderedDict()

    def allowed(self, conditions: Sequence[Condition]) -> Allowed:
        """Return which of the live experiences meet all conditions."""
        live = self._store.table.live_ids()
        if not len(live):
            return Allowed(0, np.zeros(0, bool))
        first = int(live[0])
        mask = np.zeros(int(live[-1]) - first + 1, bool)
        mask[live - first] = True
        with self._lock:
            columns = self._up_to_date({condition.name for condition in conditions if _is_content(condition)}, live)
            for condition in conditions:
                if _is_content(condition):
                    mask &= columns[condition.name].passing(condition, first, len(mask))
        for condition in conditions:
            if not _is_content(condition):
                mask &= passing_numbers(condition, self._counted(condition.name, first, len(mask)))
        return Allowed(first, mask)

    def _up_to_date(self, names: set[str], live: Ids) -> dict[str, _Column]:
        columns = {name: self._columns.setdefault(name, _Column()) for name in names}
        for name in names:
            self._columns.move_to_end(name)
        while len(self._columns) > max(_COLUMNS_MAX, len(names)):
            self._columns.popitem(last=False)
        covered = min((column.last_id for column in columns.values()), default=int(live[-1]))
        missing = live[np.searchsorted(live, covered, side="right") :]
        for start in range(0, len(missing), _READ_ROWS):
            ids = missing[start : start + _READ_ROWS].tolist()
            read = zip(ids, self._store.payloads(ids), strict=True)
            contents = [(experience, decode_content(payload)) for experience, payload in read if payload is not None]
            for name, column in columns.items():
                new = [(experience, content) for experience, content in contents if experience > column.last_id]
                column.extend([(experience, _value(content, name)) for experience, content in new])
        for column in columns.values():
            column.forget_all_but(live)
        return columns

    def _counted(self, name: str, first: int, span: int) -> Numbers:
        """Return a counter by id from ``first`` on, NaN where there is none. The writer may be changing the table."""
        if name == SUCCESS_RATE:
            retrievals, successes = (self._counted(part, first, span) for part in ("retrieval_count", "success_count"))
            return np.where(retrievals > 0, np.minimum(1.0, successes / np.maximum(1.0, retrievals)), np.nan)
        table = self._store.table
        ids, values = table.ids.copy(), getattr(table, COUNTERS[name]).copy()
        rows = min(len(ids), len(values), len(table.ids))
        ids, values = ids[:rows], values[:rows]
        steady = (ids >= first) & (ids < first + span) & (ids == table.ids[:rows])
        counted = np.full(span, np.nan)
        counted[ids[steady] - first] = values[steady]
        return counted


class _Column:
    """One value for each experience: as a number, and as the number of a distinct value."""

    def __init__(self) -> None:
        self.last_id = 0
        self._count = 0
        self._ids: Ids = np.zeros(_FIRST_ROWS, np.int64)
        self._numbers: Numbers = np.zeros(_FIRST_ROWS, np.float64)
        self._codes: Ids = np.zeros(_FIRST_ROWS, np.int64)
        self._distinct: dict[Hashable, int] = {}

    def extend(self, values: Sequence[tuple[int, tuple[Any] | None]]) -> None:
        """Add (id, value), ids ascending and higher than all before; a value comes in a tuple, None is none."""
        needed = self._count + len(values)
        if needed > len(self._ids):
            self._resize(max(needed, 2 * len(self._ids)))
        for place, (experience, value) in enumerate(values, start=self._count):
            self._ids[place] = self.last_id = experience
            number, code = np.nan, _MISSING
            if value is not None:
                code = self._distinct.setdefault(_key(value[0]), len(self._distinct))
                if isinstance(value[0], int | float) and not isinstance(value[0], bool):
                    number = float(value[0])
            self._numbers[place], self._codes[place] = number, code
        self._count = needed

    def forget_all_but(self, live: Ids) -> None:
        """Make room where most of the rows have left."""
        if self._count <= 2 * len(live) + _FIRST_ROWS:
            return
        kept = np.flatnonzero(np.isin(self._ids[: self._count], live, assume_unique=True))
        self._count = len(kept)
        for array in (self._ids, self._numbers, self._codes):
            array[: len(kept)] = array[kept]
        codes, self._codes[: len(kept)] = np.unique(self._codes[: len(kept)], return_inverse=True)
        by_code = {code: key for key, code in self._distinct.items()}
        if len(codes) and codes[0] == _MISSING:
            codes, self._codes[: len(kept)] = codes[1:], self._codes[: len(kept)] - 1
        self._distinct = {by_code[int(code)]: place for place, code in enumerate(codes)}
        self._resize(max(_FIRST_ROWS, 2 * len(kept)))

    def passing(self, condition: Condition, first: int, span: int) -> Mask:
        """Return for which ids from ``first`` on the condition holds."""
        ids = self._ids[: self._count]
        asked = (ids >= first) & (ids < first + span)
        mask = np.zeros(span, bool)
        mask[ids[asked] - first] = self._verdicts(condition)[asked]
        if (condition.operator, condition.operand) == ("exists", False):
            return ~mask
        return mask

    def _verdicts(self, condition: Condition) -> Mask:
        codes, chosen, operand = self._codes[: self._count], condition.operator, condition.operand
        if chosen == "exists":
            return np.not_equal(codes, _MISSING)
        if chosen in ORDERED and not isinstance(operand, str):
            return passing_numbers(condition, self._numbers[: self._count])
        if chosen in ORDERED:
            compare = ORDERED[chosen]
            good = [code for key, code in self._distinct.items() if isinstance(key, str) and compare(key, operand)]
        else:
            values = operand if chosen in ("in", "not_in") else [operand]
            good = [self._distinct.get(_key(value), _MISSING) for value in values]
        table = np.zeros(len(self._distinct) + 1, bool)  # the last place is that of _MISSING
        table[good] = True
        if chosen in ("ne", "not_in"):
            table = ~table
        table[_MISSING] = False
        verdicts: Mask = table[codes]
        return verdicts

    def _resize(self, rows: int) -> None:
        for name in ("_ids", "_numbers", "_codes"):
            setattr(self, name, np.resize(getattr(self, name), rows))


def passing_numbers(condition: Condition, values: Numbers) -> Mask:
    """Return for which of these numbers a condition holds; NaN stands for none."""
    chosen, operand = condition.operator, condition.operand
    there = ~np.isnan(values)
    if chosen == "exists":
        return there if operand else ~there
    if chosen in ("in", "not_in", "eq", "ne"):
        wanted = operand if chosen in ("in", "not_in") else [operand]
        numbers = [value for value in wanted if isinstance(value, int | float)]
        found = np.isin(values, np.array(numbers, np.float64))
        return there & (~found if chosen in ("ne", "not_in") else found)
    if isinstance(operand, str):
        return np.zeros(len(values), bool)
    verdicts: Mask = there & ORDERED[chosen](values, operand)
    return verdicts


def _is_content(condition: Condition) -> bool:
    return condition.name not in COUNTERS and condition.name != SUCCESS_RATE


def _key(value: Any) -> Hashable:  # noqa: ANN401 - any JSON value
    """Return what equal values share; lists and objects, which have no hash, are told apart by their text."""
    if isinstance(value, list | dict):
        return bytes, msgspec.json.encode(value, order="sorted")
    return cast("Hashable", value)


def _value(content: Content, name: str) -> tuple[Any] | None:
    """Return the value in a tuple, for it may be null; None where there is none."""
    if name.startswith(METADATA):
        metadata, key = content.metadata or {}, name.removeprefix(METADATA)
        return (metadata[key],) if key in metadata else None
    if name == "reward":
        return (math.fsum(content.rewards or ()) if content.reward is None else content.reward,)
    value = getattr(content, name)
    return None if value is None else (value,)
