"""TorchRL's prioritised buffer as a contestant of the replay benchmark; runs in its own environment.

In process, or with its rows in Redis, as TorchRL has it for buffers of more than one process. Run:
python -m benchmarks.peers.replay_torchrl process SIZE ... | redis PORT SIZE ...
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import torch
from tensordict import TensorDict  # type: ignore[import-not-found]
from torchrl.data.replay_buffers import (  # type: ignore[import-not-found]
    LazyTensorStorage,
    PrioritizedReplayBuffer,
    StoreStorage,
)

from benchmarks.peers.replay_loop import ALPHA, BATCH, BETA, Priorities, Slice, serve, slices

_FILLED_ROWS = 10_000


class TorchRl:
    """One float32 in each row: what is measured is priorities, not copying."""

    def __init__(self, size: int) -> None:
        self._buffer = PrioritizedReplayBuffer(
            alpha=ALPHA, beta=BETA, storage=LazyTensorStorage(size), batch_size=BATCH
        )
        for _ in range(0, size, _FILLED_ROWS):
            rows = self._buffer.extend(torch.zeros(_FILLED_ROWS))
            self._buffer.update_priority(rows, torch.empty(_FILLED_ROWS).uniform_(0.1, 1.0))
        self._rows = torch.zeros(BATCH)

    def add(self) -> None:
        """See Buffer."""
        self._buffer.extend(self._rows)

    def sample(self) -> Any:  # noqa: ANN401 - the library is untyped
        """See Buffer."""
        _, info = self._buffer.sample(return_info=True)
        return info["index"]

    def update(self, drawn: Any, priorities: torch.Tensor) -> None:  # noqa: ANN401 - ``drawn`` is what sample returned
        """See Buffer."""
        self._buffer.update_priority(drawn, priorities)

    @staticmethod
    def convert(priorities: Priorities) -> torch.Tensor:
        """Return priorities of the type that the buffer keeps."""
        return torch.from_numpy(priorities).float()


class InRedis:
    """Rows of 64 float32 and a reward, kept in Redis; the priorities stay in this process."""

    def __init__(self, port: int, size: int) -> None:
        storage = StoreStorage(size, port=port, db=0)
        self._buffer = PrioritizedReplayBuffer(alpha=ALPHA, beta=BETA, storage=storage, batch_size=BATCH)
        for _ in range(0, size, _FILLED_ROWS):
            rows = {"observation": torch.randn(_FILLED_ROWS, 64), "reward": torch.rand(_FILLED_ROWS)}
            self._buffer.extend(TensorDict(rows, [_FILLED_ROWS]))

    def sample(self) -> Any:  # noqa: ANN401 - the library is untyped
        """Draw rows and read them."""
        return self._buffer.sample(return_info=True)


def main() -> None:
    """Answer commands."""
    place, *numbers = sys.argv[1:]
    label = f"TorchRL {version('torchrl')}"
    timed: dict[str, Slice] = {}
    if place == "redis":
        port, *sizes = map(int, numbers)
        for size in sizes:
            timed[f"sample {size}"] = _sampling(InRedis(port, size))
        serve(f"{label}, rows in Redis", timed)
    else:
        for size in map(int, numbers):
            timed |= slices(TorchRl(size), size, TorchRl.convert)
        serve(label, timed)


def _sampling(buffer: InRedis) -> Slice:
    return lambda: buffer.sample


if __name__ == "__main__":
    main()
