"""Times that have a bar: asserted where they are taken, and listed at the end of the run."""

from __future__ import annotations

import time
from collections.abc import Callable


class Measured:
    """The times of one run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def below(self, what: str, seconds: float, bar_s: float) -> None:
        """Keep a time and fail where it is above its bar."""
        self.lines.append(f"{seconds:7.2f} s  (bar {bar_s:g} s)  {what}")
        assert seconds <= bar_s, f"{what} took {seconds:.2f} s, the bar is {bar_s:g} s"

    def time(self, work: Callable[[], object]) -> float:
        """Return how many seconds the work took."""
        began = time.monotonic()
        work()
        return time.monotonic() - began

    def note(self, text: str) -> None:
        """Keep a text to show at the end."""
        self.lines.append(text)
