"""The loop of a contestant of the replay benchmark: commands on standard input, times on standard output.

Runs in the peers' own environments: it imports nothing but the standard library and numpy. A command is one line of
JSON, ``{"slice": name, "seconds": s}``; its answer is one line, ``{"durations_s": [...]}``, a duration for each call.
The first line of output is ``{"label": name and version, "slices": [names]}``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

BATCH = 256
ALPHA = 0.6
BETA = 0.4
_WARM_UP_CALLS = 3
_POOL = 16
_ANSWERS = 1
_ERRORS = 2

Slice = Callable[[], Callable[[], object]]
"""Prepares a slice and returns the call that is timed."""
Priorities = npt.NDArray[np.float64]


class Buffer(Protocol):
    """A full buffer in this process."""

    def add(self) -> None:
        """Add BATCH rows, which take the places of the oldest."""
        ...

    def sample(self) -> Any:  # noqa: ANN401 - what update takes
        """Draw BATCH rows by priority, with importance weights, and return what says which."""
        ...

    def update(self, drawn: Any, priorities: Any) -> None:  # noqa: ANN401 - what sample returned, and ``convert``
        """Set the priorities of what was drawn."""
        ...


def slices(buffer: Buffer, size: int, convert: Callable[[Priorities], Any] = np.asarray) -> dict[str, Slice]:
    """Return what is timed of a buffer of this size; ``convert`` makes of priorities what ``update`` takes."""
    fresh = cycle([convert(row) for row in np.random.default_rng(0).uniform(0.1, 1.0, (_POOL, BATCH))])

    def update() -> Callable[[], object]:
        drawn = cycle([buffer.sample() for _ in range(_POOL)])
        return lambda: buffer.update(next(drawn), next(fresh))

    def step() -> Callable[[], object]:
        return lambda: buffer.update(buffer.sample(), next(fresh))

    return {
        f"add {size}": lambda: buffer.add,
        f"sample {size}": lambda: buffer.sample,
        f"update {size}": update,
        f"step {size}": step,
    }


def serve(label: str, timed: Mapping[str, Slice]) -> None:
    """Answer commands until standard input ends; what libraries print goes to standard error."""
    with os.fdopen(os.dup(_ANSWERS), "w", buffering=1) as answers:
        os.dup2(_ERRORS, _ANSWERS)
        answers.write(json.dumps({"label": label, "slices": list(timed)}) + "\n")
        for line in sys.stdin:
            command = json.loads(line)
            durations = _durations(timed[command["slice"]](), command["seconds"])
            answers.write(json.dumps({"durations_s": durations}) + "\n")


def _durations(call: Callable[[], object], seconds: float) -> list[float]:
    for _ in range(_WARM_UP_CALLS):
        call()
    durations = []
    began = ends = time.perf_counter()
    while ends - began < seconds:
        started = ends
        call()
        ends = time.perf_counter()
        durations.append(ends - started)
    return durations
