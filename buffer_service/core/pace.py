"""What a turn's searches take on the event loop: whether they are done there at all, and alone or by a team.

A team of threads is quicker while each has a core to itself. Where something else needs one of the cores, the team
waits for the thread that has none, and a search takes several times what it takes alone. So a team is used for as long
as it is quicker, and left alone for ever longer while it is not; once it was not, it is tried only when a core is free
at the end of a batch, for each try that fails makes many wait. What the system says of cores is not enough alone: some
of them may be for others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

BATCH_ROWS_MAX = 64
"""Rows of one batch; what waits longer waits for the next, so that a batch stays a matter of a few milliseconds."""

INLINE_MAX_S = 0.006
"""Longest time that a turn's searches may hold up the loop, as far as can be told from those before them."""
INLINE_ROW_MAX_S = 0.00025
"""A query of a batch that takes longer than this is worth the way to the thread and back,"""
INLINE_SHORT_S = 0.0006
"""and a batch where all of it takes longer than this."""
_LEARNING = 0.25
"""Weight of the last batch in what a query takes,"""
_SURPRISE_MAX = 2.0
"""as which no more than so many times what was known counts: a core that was taken away for 20 ms says nothing."""
_FORGETTING = 0.99
"""What a query takes counts so much less with each turn that went to the thread, so that the loop is tried again."""

TEAM_ROWS_MIN = 4
"""Fewer queries are not worth a team."""
SLOWER = 1.25
"""A team has failed when a batch took it so many times what one takes alone: one in fifty takes a little longer."""
REST_MIN, REST_MAX = 8, 64
"""Batches done alone after a team has failed: twice as many each time,"""
WON_MIN = 16
"""and half as many after so many with which it has not."""
ALONE_EVERY = 256
"""One of so many batches is done alone, to know what that takes by now."""


@dataclass(slots=True)
class _Known:
    """Of batches of about one size, in seconds for each query; 0 where nothing is known."""

    row_s: float = 0.0
    alone_s: float = 0.0
    team_s: float = 0.0
    batches: int = 0
    won: int = 0
    rest: int = REST_MIN
    resting: int = 0


class Pace:
    """See the module; ``core_free`` tells whether a core has nothing to do right now. On the event loop."""

    def __init__(self, core_free: Callable[[], bool]) -> None:
        self._look = core_free
        self._core_free = True
        """At the end of the last batch that was done alone after a team had failed."""
        self._failed = False
        """Whether a team has, the last time one was used, with however many queries."""
        self._known = [_Known() for _ in range(BATCH_ROWS_MAX.bit_length())]
        """By the number of queries in a batch: of 1, from 2, from 4 and so on."""

    def short(self, rows: int) -> bool:
        """Tell whether the loop may search for so many; where not, what is known of that counts less from here on."""
        if rows > BATCH_ROWS_MAX:
            return False
        known = self._of(rows)
        row_s = known.row_s
        short = rows * row_s <= INLINE_SHORT_S or row_s <= min(INLINE_ROW_MAX_S, INLINE_MAX_S / rows)
        if not short:
            known.row_s *= _FORGETTING
        return short

    def team(self, rows: int) -> bool:
        """Tell whether a team is to do the next batch of so many."""
        known = self._of(rows)
        known.batches += 1
        if rows < TEAM_ROWS_MIN or not known.alone_s or known.batches % ALONE_EVERY == 0:
            return False
        if known.resting:
            known.resting -= 1
            return False
        return self._core_free or not self._failed

    def learn(self, rows: int, row_s: float, *, team: bool, disturbed: bool = False) -> None:
        """Take into account what each query of a batch took; ``disturbed``, beside a thread that needed a core, too."""
        known = self._of(rows)
        known.row_s = _learned(known.row_s, row_s)
        if self._failed and not team and rows >= TEAM_ROWS_MIN:
            self._core_free = self._look()
        if disturbed:
            return
        if not team:
            known.alone_s = _learned(known.alone_s, row_s)
            return
        known.team_s = _learned(known.team_s, row_s)
        self._failed = known.team_s >= known.alone_s or row_s >= SLOWER * known.alone_s
        if self._failed:
            known.resting, known.won, known.rest = known.rest, 0, min(2 * known.rest, REST_MAX)
            known.team_s = 0.0
            return
        known.won += 1
        if known.won == WON_MIN:
            known.won, known.rest = 0, max(REST_MIN, known.rest // 2)

    def _of(self, rows: int) -> _Known:
        return self._known[min(rows, BATCH_ROWS_MAX).bit_length() - 1]


def _learned(before: float, row_s: float) -> float:
    return before + _LEARNING * (min(row_s, _SURPRISE_MAX * before) - before) if before else row_s
