"""cpprb's prioritised buffer as a contestant of the replay benchmark; runs in its own environment.

Run: python -m benchmarks.peers.replay_cpprb SIZE ...
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import cpprb  # type: ignore[import-not-found]
import numpy as np

from benchmarks.peers.replay_loop import ALPHA, BATCH, BETA, Priorities, Slice, serve, slices

_FILLED_ROWS = 10_000


class Cpprb:
    """One float32 in each row: what is measured is priorities, not copying."""

    def __init__(self, size: int) -> None:
        columns = {"value": {"shape": 1, "dtype": np.float32}}
        self._buffer = cpprb.PrioritizedReplayBuffer(size, columns, alpha=ALPHA)
        random = np.random.default_rng(0)
        for _ in range(0, size, _FILLED_ROWS):
            values = np.zeros((_FILLED_ROWS, 1), np.float32)
            self._buffer.add(value=values, priorities=random.uniform(0.1, 1.0, _FILLED_ROWS))
        self._rows = np.zeros((BATCH, 1), np.float32)
        self._priorities = random.uniform(0.1, 1.0, BATCH)

    def add(self) -> None:
        """See Buffer."""
        self._buffer.add(value=self._rows, priorities=self._priorities)

    def sample(self) -> Any:  # noqa: ANN401 - the library is untyped
        """See Buffer."""
        return self._buffer.sample(BATCH, beta=BETA)["indexes"]

    def update(self, drawn: Any, priorities: Priorities) -> None:  # noqa: ANN401 - the library is untyped
        """See Buffer."""
        self._buffer.update_priorities(drawn, priorities)


def main() -> None:
    """Answer commands."""
    timed: dict[str, Slice] = {}
    for size in map(int, sys.argv[1:]):
        timed |= slices(Cpprb(size), size)
    serve(f"cpprb {version('cpprb')}", timed)


if __name__ == "__main__":
    main()
