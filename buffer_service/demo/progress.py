"""What has happened so far: filled in by the learner and the trainer, read by the view and the checks. One thread."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

RECENT = 200
_LATENCIES_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of generation, as a reader saw it."""

    step: int
    generation: int


@dataclass(slots=True)
class Progress:
    """The state of one run. Latencies are in seconds, as the learner waited for them."""

    total: int
    run_id: str
    generation: int
    """Generation of the last answered search."""
    correct: list[bool] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    """Ids of the appended experiences."""
    search_s: list[float] = field(default_factory=list)
    switches: list[Switch] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Requests that were not answered as they should have been, retries after a broken connection included."""
    outcomes: int = 0
    priorities: int = 0

    def saw_generation(self, generation: int) -> None:
        """Take note of the generation that answered a search."""
        if generation != self.generation:
            self.switches.append(Switch(len(self.correct), generation))
            self.generation = generation

    def accuracy(self, last: int | None = None) -> float:
        """Return the share of right answers, of all or of the last ones; 0 before the first."""
        answers = self.correct if last is None else self.correct[-last:]
        return sum(answers) / len(answers) if answers else 0.0

    def latency_ms(self, percentile: float) -> float:
        """Return a percentile of the recent search latencies, in milliseconds."""
        recent = self.search_s[-_LATENCIES_SHOWN:]
        return float(np.percentile(recent, percentile)) * 1e3 if recent else 0.0

    def curve(self, points: int) -> list[float]:
        """Return the accuracy over time, in up to ``points`` equal stretches of the whole run."""
        stretch = max(1, -(-self.total // points))
        parts = [self.correct[start : start + stretch] for start in range(0, len(self.correct), stretch)]
        return [sum(part) / len(part) for part in parts]
