"""The history of a run: every operation of every client process, with its outcome and its times.

All times are seconds of ``time.monotonic``, which on Linux is one clock for all processes. Each process writes its own
file; a checker reads them together. An operation whose outcome is unknown may take effect at any time after it was
invoked, so its ``completed`` says nothing but when the client gave up waiting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import msgspec
import numpy as np

from tests.helpers.vectors import Vectors, unit_vectors


class Outcome(StrEnum):
    """What the client knows about an operation."""

    OK = "ok"
    FAIL = "fail"
    """Nothing was done, for certain."""
    UNKNOWN = "unknown"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of one client; what was asked, and what was answered where the outcome is ok."""

    process: int
    invoked: float
    completed: float
    outcome: Outcome = Outcome.OK
    refusal: str = ""
    """The service's code for the error that it answered, such as ``evicted-experience``."""

    @property
    def ok(self) -> bool:
        """Whether it was done and answered."""
        return self.outcome is Outcome.OK

    @property
    def possible(self) -> bool:
        """Whether it may have been done."""
        return self.outcome is not Outcome.FAIL

    @property
    def effective_until(self) -> float:
        """The time after which it has no effect any more that it had not before."""
        return self.completed if self.ok else math.inf


class Append(Operation, tag="append"):
    """Experiences by key, which is their client_id; an attempt that is repeated has the same keys."""

    keys: list[str]
    ids: list[int] = []
    sequence: int = 0


class Remove(Operation, tag="remove"):
    """One experience is removed."""

    id: int
    sequence: int = 0


class SetPriorities(Operation, tag="priorities"):
    """Updates are (id, priority, sequence that makes it conditional or None)."""

    updates: list[tuple[int, float, int | None]]
    statuses: list[str] = []

    @property
    def told(self) -> list[tuple[int, str]]:
        """What the service said of each id."""
        return [(update[0], status) for update, status in zip(self.updates, self.statuses, strict=self.ok)]


class ReportOutcomes(Operation, tag="outcomes"):
    """Outcomes are (id, success); an attempt that is repeated has the same request_id."""

    request_id: str
    outcomes: list[tuple[int, bool]]
    statuses: list[str] = []

    @property
    def told(self) -> list[tuple[int, str]]:
        """What the service said of each id."""
        return [(outcome[0], status) for outcome, status in zip(self.outcomes, self.statuses, strict=self.ok)]


class Search(Operation, tag="search"):
    """A search by the vectors of these keys; hits are (id, score), best first, one list for each key."""

    keys: list[str]
    hits: list[list[tuple[int, float]]] = []
    sequence: int = 0


class Sample(Operation, tag="sample"):
    """Draws are (id, sequence of the row)."""

    draws: list[tuple[int, int]] = []
    table_size: int = 0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of one experience; ``content`` is the key as its metadata have it."""

    id: int
    key: str
    content: str
    sequence: int
    priority: float
    outcomes: int = 0
    successes: int = 0


class Get(Operation, tag="get"):
    """One experience is read."""

    id: int
    rows: list[Seen] = []


class Page(Operation, tag="page"):
    """All experiences with ids from the cursor on, up to ``following``, which is None at the end."""

    cursor: int = 0
    following: int | None = None
    rows: list[Seen] = []


AnyOperation = Append | Remove | SetPriorities | ReportOutcomes | Search | Sample | Get | Page
History = list[AnyOperation]

_decode = msgspec.json.Decoder(AnyOperation).decode


def encode_operation(operation: Operation) -> bytes:
    """Return one line of a history file."""
    return msgspec.json.encode(operation) + b"\n"


def read_histories(files: Iterable[Path]) -> History:
    """Return the operations of all files by the time of their invocation."""
    found = [_decode(line) for file in files for line in file.read_bytes().splitlines()]
    return sorted(found, key=lambda operation: operation.invoked)


def key_of(process: int, number: int) -> str:
    """Return the key of the experience that a process appends as its ``number``-th."""
    return f"{process}-{number}"


def vector_of(key: str) -> Vectors:
    """Return the vector, of 8 dimensions, of the experience with this key; any process can search for it."""
    process, number = map(int, key.split("-"))
    return unit_vectors(1, 8, seed=1_000_003 * process + number)[0]


def vectors_of(keys: Iterable[str]) -> Vectors:
    """Return the vectors of these keys, one a row."""
    return np.stack([vector_of(key) for key in keys])
