"""What a history says for certain about each experience: when it was there, when it may have gone, when it had gone.

Times are bounds: ``born`` is a time at which the experience was there at the latest, ``maybe_gone`` the earliest at
which it can have left, ``gone`` the latest. So whatever contradicts them is a violation in every order of the
operations that the times allow. Ids are dense from 1, so the number of appends that were invoked bounds the ids.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tests.helpers.history import (
    AnyOperation,
    Append,
    Get,
    History,
    Page,
    Remove,
    ReportOutcomes,
    Sample,
    Search,
    SetPriorities,
)

Name = TypeVar("Name", int, str)

SAME_SCORE = 0.9999
"""A hit that is nearer than this has the very vector of the query."""
GONE = "evicted-experience"


@dataclass(frozen=True, slots=True)
class Setup:
    """What the checker has to know of the service."""

    capacity: int
    initial_priority: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """An experience was there, or (as an absence) was not, at some moment between the two times."""

    id: int
    key: str | None
    invoked: float
    completed: float
    operation: AnyOperation


class Latest:
    """The highest value that was known at a time: of all that had been completed before it."""

    def __init__(self, known: Iterable[tuple[float, int]]) -> None:
        self._times: list[float] = []
        self._values: list[int] = []
        highest = 0
        for completed, value in sorted(known):
            highest = max(highest, value)
            self._times.append(completed)
            self._values.append(highest)

    def before(self, time: float) -> int:
        """Return the highest value that was completed strictly before the time, 0 where there was none."""
        place = bisect_left(self._times, time)
        return self._values[place - 1] if place else 0


class Facts:
    """Computed once from a history."""

    def __init__(self, history: History, setup: Setup) -> None:
        self.history = history
        self.setup = setup
        self.appends = [item for item in history if isinstance(item, Append)]
        self.sent = _first((key, item.invoked) for item in self.appends if item.possible for key in item.keys)
        """When each key was first sent in a request that may have been carried out."""
        self.batches = {key: (tuple(item.keys), place) for item in self.appends for place, key in enumerate(item.keys)}
        self._sent_times = sorted(self.sent.values())
        self._first_reports = _first(
            (item.request_id, item.invoked) for item in history if isinstance(item, ReportOutcomes) and item.possible
        )
        acknowledged = [item for item in self.appends if item.ok]
        self.acked = _first((id_, item.completed) for item in acknowledged for id_ in item.ids)
        self.acked_ids = Latest((item.completed, max(item.ids)) for item in acknowledged)
        self.ids = {key: id_ for item in acknowledged for key, id_ in zip(item.keys, item.ids, strict=True)}
        self.sightings = [found for item in history if item.ok for found in self._sightings(item)]
        self.ids |= {found.key: found.id for found in self.sightings if found.key is not None}
        self.born = _first((*self.acked.items(), *((found.id, found.completed) for found in self.sightings)))
        self.removal_sent = _first(
            (item.id, item.invoked) for item in history if isinstance(item, Remove) and item.possible
        )
        self._removed_ids = sorted(self.removal_sent)
        self.absences = [found for item in history for found in self._absences(item)]
        removed = [(item.id, item.completed) for item in history if isinstance(item, Remove) and item.ok]
        self.gone = _first((*removed, *((found.id, found.completed) for found in self.absences)))
        self.evicted = Latest((at, id_) for id_, at in self.gone.items() if id_ not in self.removal_sent)
        """The highest id that had left though nobody ever asked for its removal."""

    def issued_before(self, time: float) -> int:
        """Return the highest id that can have been given out before the time."""
        return bisect_left(self._sent_times, time)

    def maybe_gone(self, id_: int) -> float:
        """Return the earliest time at which a removal or an eviction can have taken it."""
        place = id_ + self.setup.capacity - 1
        evicted = self._sent_times[place] if place < len(self._sent_times) else math.inf
        return min(self.removal_sent.get(id_, math.inf), evicted)

    def surely_evicted(self, id_: int, time: float) -> bool:
        """Return whether so much was acknowledged before the time that the capacity leaves no room for it."""
        highest = self.acked_ids.before(time)
        if highest - id_ < self.setup.capacity:
            return False
        removed = bisect_right(self._removed_ids, highest) - bisect_right(self._removed_ids, id_)
        return highest - id_ - removed >= self.setup.capacity

    def siblings(self, key: str, id_: int) -> Iterator[tuple[str, int]]:
        """Yield key and id of all that were appended in one request with this one, itself included."""
        keys, place = self.batches.get(key, ((key,), 0))
        for other, name in enumerate(keys):
            yield name, id_ - place + other

    def _sightings(self, item: AnyOperation) -> Iterator[Sighting]:
        # A repeated report is told what the first attempt was told.
        invoked = self._first_reports[item.request_id] if isinstance(item, ReportOutcomes) else item.invoked
        yield from (Sighting(id_, key, invoked, item.completed, item) for id_, key in _met(item))

    def _absences(self, item: AnyOperation) -> Iterator[Sighting]:
        """Yield what was told to have gone, and what was there before but was not met where it should have been."""
        for id_ in (*_told_gone(item), *self._missed(item)):
            yield Sighting(id_, None, item.invoked, item.completed, item)

    def _missed(self, item: AnyOperation) -> Iterator[int]:
        if isinstance(item, Search) and item.ok:
            for key, hits in zip(item.keys, item.hits, strict=True):
                id_ = self.ids.get(key)
                found = bool(hits) and (hits[0][0] == id_ or hits[0][1] >= SAME_SCORE)
                if id_ is not None and not found and self.born[id_] < item.invoked:
                    yield id_
        elif isinstance(item, Page) and item.ok:
            there = {row.id for row in item.rows}
            for id_ in range(max(1, item.cursor), self._page_end(item)):
                if id_ not in there and self.born.get(id_, math.inf) < item.invoked:
                    yield id_

    def _page_end(self, page: Page) -> int:
        return max(self.born, default=0) + 1 if page.following is None else page.following


def _met(item: AnyOperation) -> list[tuple[int, str | None]]:
    """Return id, and key where it was told, of every experience that the answer says is, or was, there."""
    match item:
        case Remove():
            return [(item.id, None)]
        case SetPriorities() | ReportOutcomes():
            return [(id_, None) for id_, status in item.told if status != "evicted"]
        case Search():
            ranked = [
                (key, rank, *hit)
                for key, hits in zip(item.keys, item.hits, strict=True)
                for rank, hit in enumerate(hits)
            ]
            return [(id_, key if not rank and score >= SAME_SCORE else None) for key, rank, id_, score in ranked]
        case Sample():
            return [(id_, None) for id_, _ in item.draws]
        case Get() | Page():
            return [(row.id, row.key) for row in item.rows]
        case Append():
            return []


def _told_gone(item: AnyOperation) -> list[int]:
    if isinstance(item, Remove | Get):
        return [item.id] if item.refusal == GONE else []
    if isinstance(item, SetPriorities | ReportOutcomes):
        return [id_ for id_, status in item.told if status == "evicted"]
    return []


def _first(times: Iterable[tuple[Name, float]]) -> dict[Name, float]:
    """Return the earliest time of each."""
    earliest: dict[Name, float] = {}
    for key, time in times:
        earliest[key] = min(time, earliest.get(key, math.inf))
    return earliest
