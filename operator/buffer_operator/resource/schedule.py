"""Points in time of a cron expression with five fields, in UTC. Pure; times are Unix seconds, points whole minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError

_FIELDS = 5


class InvalidScheduleError(ValueError):
    """The expression names no point in time; the message says which field is wrong."""


def check_schedule(expression: str) -> None:
    """Raise InvalidScheduleError for what is no cron expression, or one that never comes due."""
    if len(expression.split()) != _FIELDS:
        raise InvalidScheduleError(f"'{expression}' does not have five fields: minute hour day month weekday")
    try:
        next(CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise InvalidScheduleError(f"'{expression}': {error}") from error
    except StopIteration:
        raise InvalidScheduleError(f"'{expression}' never comes due") from None


def last_point(expression: str, now: float) -> float:
    """Return the latest point that is not after ``now``; the expression has been checked."""
    return _point(expression, _minute(now), reverse=True)


def next_point(expression: str, now: float) -> float:
    """Return the first point after ``now``; the expression has been checked."""
    return _point(expression, _minute(now), reverse=False)


def _minute(now: float) -> int:
    return int(now // 60)


@lru_cache(maxsize=1024)
def _point(expression: str, minute: int, *, reverse: bool) -> float:
    """Asked at each visit of each buffer; the answer changes with the minute at most."""
    start = datetime.fromtimestamp(minute * 60, UTC)
    # What is searched backwards begins before its start, and the minute that has just begun counts.
    found = next(CronSim(expression, start + timedelta(minutes=1) if reverse else start, reverse=reverse))
    return found.timestamp()
