"""Figures of interleaved rounds: medians with their spread, and ratios within each round, since machines drift."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

NOT_MEASURED = "not measured"


class Rounds:
    """One dictionary of figures for each round."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, float]] = []

    def begin(self) -> dict[str, float]:
        """Return the dictionary that the next round fills."""
        self.rounds.append({})
        return self.rounds[-1]

    def values(self, figure: Callable[[dict[str, float]], float]) -> list[float]:
        """Return a figure of each round, leaving out rounds that lack a part of it."""
        values = []
        for taken in self.rounds:
            try:
                values.append(figure(taken))
            except KeyError:
                continue
        return values

    def cell(self, name: str, style: str = ",.0f") -> str:
        """Return the median of a figure, with the lowest and highest round."""
        return spread(self.values(lambda taken: taken[name]), style)


def spread(values: list[float], style: str) -> str:
    """Return the median, lowest and highest."""
    if not values:
        return NOT_MEASURED
    return f"{statistics.median(values):{style}} ({min(values):{style}} to {max(values):{style}})"


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must reach; the figure is taken within each round."""

    name: str
    bound: float
    at_least: bool
    figure: Callable[[dict[str, float]], float]
    style: str = ".2f"

    def row(self, rounds: Rounds) -> tuple[str, str, str, str]:
        """Return name, figure, bound and verdict; the median decides."""
        values = rounds.values(self.figure)
        needed = f"{'at least' if self.at_least else 'at most'} {self.bound:{self.style}}"
        if not values:
            return self.name, NOT_MEASURED, needed, "[bold red]not measured[/]"
        median = statistics.median(values)
        met = median >= self.bound if self.at_least else median <= self.bound
        return self.name, spread(values, self.style), needed, "pass" if met else "[bold red]MISS[/]"
