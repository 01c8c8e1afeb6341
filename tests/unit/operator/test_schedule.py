"""Points in time of a schedule."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from buffer_operator.resource.schedule import InvalidScheduleError, check_schedule, last_point, next_point


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("expression", "now", "last", "following"),
    [
        ("40 8 * * *", "2026-11-21T08:40:00", "2026-11-21T08:40", "2026-11-22T08:40"),
        ("40 8 * * *", "2026-11-21T08:39:59", "2026-11-20T08:40", "2026-11-21T08:40"),
        ("*/15 * * * *", "2026-11-21T08:44:59", "2026-11-21T08:30", "2026-11-21T08:45"),
        ("0 0 29 2 *", "2026-11-21T00:00:00", "2024-02-29T00:00", "2028-02-29T00:00"),
        ("0 3 * * 0", "2026-11-21T12:00:00", "2026-11-15T03:00", "2026-11-22T03:00"),
    ],
)
def test_points_are_those_of_cron_in_utc(expression: str, now: str, last: str, following: str) -> None:
    """A point that is just reached counts as the last one."""
    assert last_point(expression, _at(now)) == _at(last)
    assert next_point(expression, _at(now)) == _at(following)


@pytest.mark.parametrize("expression", ["", "0 3 * *", "0 3 * * * *", "61 * * * *", "0 0 30 2 *", "5-1 * * * *"])
def test_what_never_comes_due_is_refused(expression: str) -> None:
    """With the expression in the message."""
    with pytest.raises(InvalidScheduleError, match=f"^'{expression}".replace("*", r"\*")):
        check_schedule(expression)
