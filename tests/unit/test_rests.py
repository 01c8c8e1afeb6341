"""Background work rests between its pieces in proportion to them."""

from __future__ import annotations

from buffer_service.rests import Rests


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rested: list[float] = []

    def rest(self, duration_s: float) -> None:
        """Let it pass."""
        self.rested.append(duration_s)
        self.now += duration_s


def test_a_rest_is_so_many_times_as_long_as_the_piece_before_it() -> None:
    """The rests themselves do not count."""
    clock = Clock()
    rest = Rests(3, clock.rest, lambda: clock.now)
    for piece_s in (1.0, 2.0, 0.0):
        clock.now += piece_s
        rest()

    assert clock.rested == [3.0, 6.0, 0.0]


def test_what_was_done_before_the_work_began_does_not_count() -> None:
    """As the wait for something to do."""
    clock = Clock()
    rest = Rests(2, clock.rest, lambda: clock.now)
    clock.now += 100.0
    rest.begin()
    clock.now += 1.0
    rest()

    assert clock.rested == [2.0]
