"""Text in columns, at most a hundred characters wide. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

WIDTH: Final = 100
_GAP: Final = 2
_LAST_COLUMN_MIN: Final = 24
_STEPS: Final = ((86_400, "d"), (3600, "h"), (60, "m"))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; the last column is wrapped, the others are as wide as they have to be."""
    if not rows:
        return []
    fixed = [max(len(row[column]) for row in (header, *rows)) + _GAP for column in range(len(header) - 1)]
    room = max(_LAST_COLUMN_MIN, WIDTH - sum(fixed))
    lines = []
    for row in (header, *rows):
        parts = wrapped(row[-1], room)
        start = "".join(cell.ljust(width) for cell, width in zip(row[:-1], fixed, strict=True))
        lines += [f"{start}{parts[0]}".rstrip(), *(" " * sum(fixed) + part for part in parts[1:])]
    return lines


def facts(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return one line for each name and text, wrapped under itself; texts that are empty are left out."""
    given = [(name, text) for name, text in pairs if text]
    width = max((len(name) for name, _ in given), default=0) + _GAP
    lines = []
    shown = ""
    for name, text in given:
        first = name.ljust(width) if name != shown else " " * width
        shown = name
        parts = wrapped(text, WIDTH - width)
        lines += [f"{first}{parts[0]}", *(" " * width + part for part in parts[1:])]
    return lines


def wrapped(text: str, width: int) -> list[str]:
    """Return a text as lines of at most this width; never none."""
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def age(since: str, now: float) -> str:
    """Return how long ago a time of the API was, such as ``3m``."""
    seconds = max(0.0, now - datetime.fromisoformat(since).timestamp())
    for size, letter in _STEPS:
        if seconds >= size:
            return f"{int(seconds // size)}{letter}"
    return f"{int(seconds)}s"


def clock(text: str) -> str:
    """Return a time of the API for people, in UTC."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def number(value: object) -> str:
    """Return a count with thousands apart, a question mark where it is not known."""
    return f"{value:,}" if isinstance(value, int) else "?"
