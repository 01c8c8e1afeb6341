"""Reverb as a contestant of the replay benchmark, over gRPC; runs in its own environment.

Server and client are two processes, as the client of the same process would pass gRPC by. Run:
python -m benchmarks.peers.replay_reverb server SIZE ... | client PORT SIZE ...
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import reverb  # type: ignore[import-not-found]

from benchmarks.peers.replay_loop import ALPHA, BATCH, Slice, serve

_FLUSHED_ROWS = 1000


def run_server(sizes: list[int]) -> None:
    """Fill one table of each size, say on which port, and serve until standard input ends."""
    tables = [
        reverb.Table(
            str(size),
            sampler=reverb.selectors.Prioritized(ALPHA),
            remover=reverb.selectors.Fifo(),
            max_size=size,
            rate_limiter=reverb.rate_limiters.MinSize(1),
        )
        for size in sizes
    ]
    server = reverb.Server(tables)
    random = np.random.default_rng(0)
    with reverb.Client(f"localhost:{server.port}").writer(max_sequence_length=1) as writer:
        for size in sizes:
            for row, priority in enumerate(random.uniform(0.1, 1.0, size)):
                writer.append([random.standard_normal(64, np.float32), np.float32(priority)])
                writer.create_item(str(size), 1, priority)
                if row % _FLUSHED_ROWS == 0:
                    writer.flush()
        writer.flush()
    print(f"listening on {server.port}", flush=True)
    sys.stdin.read()


def run_client(port: int, sizes: list[int]) -> None:
    """Answer commands."""
    timed = {f"sample {size}": _sampling(port, size) for size in sizes}
    serve(f"Reverb {version('dm-reverb')}", timed)


def _sampling(port: int, size: int) -> Slice:
    client = reverb.Client(f"localhost:{port}")

    def begin() -> Callable[[], object]:
        return lambda: list(client.sample(str(size), num_samples=BATCH))

    return begin


if __name__ == "__main__":
    role, *numbers = sys.argv[1:]
    if role == "server":
        run_server([int(number) for number in numbers])
    else:
        run_client(int(numbers[0]), [int(number) for number in numbers[1:]])
