"""Prioritised replay beside cpprb, TorchRL and Reverb, in one interleaved run. Run: python -m benchmarks replay.

A batch is 256 everywhere. In process: add, sample, update, and a step of sample and update, at full size; the time of
a call is that over eight calls in a row, as what is put off to a later call has to count. Between processes: sample
alone, over HTTP for us, gRPC for Reverb, Redis for TorchRL; each experience has 64 float32 and a reward, and the peers
return both. Ours returns ids, probabilities and weights, with "vectors" the 64 float32 as well, with "experiences"
all that it knows of each, with as many bytes in its metadata. Every contestant is a process of its own, all are up
from start to end and take turns within each round; clients and servers share the cores. Ratios are taken within a
round.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from benchmarks import replay_contestants, replay_tables
from benchmarks.peers.contestant import UnavailableError
from benchmarks.processes import service
from benchmarks.replay_contestants import Contestant
from benchmarks.rounds import Rounds
from buffer_client import BufferClient, Experience

PEERS = ("cpprb", "torchrl", "reverb", "redis")
_WIDTH = 160
_DIMENSION = 64
_ROWS_PER_REQUEST = 1000
_BLOCK = 8
_REMOTE_TIMES = 3
"""How much longer slices between processes are, so that there is something behind their p99."""
_SERVICE_SETTINGS = {
    "XBUF_EMBEDDING__DIMENSION": str(_DIMENSION),
    "XBUF_BUFFER__CAPACITY": "2000000",
    "XBUF_INDEX__DELTA_ROWS_MAX": "2000000",
    "XBUF_REBUILD__MODE": "off",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What is run, and for how long."""

    sizes: tuple[int, ...]
    remote_sizes: tuple[int, ...]
    rounds: int
    slice_s: float
    peers: tuple[str, ...]
    json: Path | None


class Run:
    """One interleaved run over contestants that are all up from its start to its end."""

    def __init__(self, options: Options, folder: Path, console: Console) -> None:
        self._options = options
        self._folder = folder
        self._console = console
        self._contestants: dict[str, Contestant] = {}
        self.rounds = Rounds()
        self.notes: list[str] = []

    @property
    def labels(self) -> dict[str, str]:
        """Names and versions of those that take part."""
        return {key: contestant.label for key, contestant in self._contestants.items()}

    def go(self) -> None:
        """Start the contestants, take all rounds, end the contestants."""
        with ExitStack() as stack:
            for key, start in self._starts(stack).items():
                self._console.print(f"starting {key}", style="dim")
                try:
                    self._contestants[key] = stack.enter_context(start())
                except UnavailableError as error:
                    self.notes.append(f"[bold red]{key} was NOT measured:[/] {error}")
            for number in range(self._options.rounds):
                self._console.print(f"round {number + 1}", style="dim")
                self._round(self.rounds.begin())

    def _starts(self, stack: ExitStack) -> dict[str, Callable[[], AbstractContextManager[Contestant]]]:
        sizes, remote = self._options.sizes, self._options.remote_sizes
        starts: dict[str, Callable[[], AbstractContextManager[Contestant]]] = {}
        peers: dict[str, Callable[[], AbstractContextManager[Contestant]]] = {}
        if sizes:
            for kind in replay_tables.OURS:
                starts[kind] = _in_process(kind, sizes)
            peers["cpprb"] = lambda: replay_contestants.cpprb(sizes)
            peers["torchrl"] = lambda: replay_contestants.torchrl(sizes)
        if remote:
            for backend in replay_tables.BACKENDS:
                urls = {size: self._service(stack, backend, size) for size in remote}
                for include in replay_tables.INCLUDES:
                    starts[f"{backend} {include}"] = _over_http(urls, include)
            peers["reverb"] = lambda: replay_contestants.reverb(remote)
            peers["redis"] = lambda: replay_contestants.torchrl_in_redis(self._folder, remote)
        return starts | {key: start for key, start in peers.items() if key in self._options.peers}

    def _service(self, stack: ExitStack, backend: str, size: int) -> str:
        self._console.print(f"filling a service, {backend}, {size:,}", style="dim")
        server = stack.enter_context(service(self._folder / f"{backend}-{size}", backend, _SERVICE_SETTINGS))
        random = np.random.default_rng(0)
        with BufferClient(server.url) as client:
            for _ in range(0, size, _ROWS_PER_REQUEST):
                client.append(_experiences(random, _ROWS_PER_REQUEST))
        return server.url

    def _round(self, taken: dict[str, float]) -> None:
        names = dict.fromkeys(name for contestant in self._contestants.values() for name in contestant.slices)
        for name in names:
            for key, contestant in self._contestants.items():
                if name in contestant.slices:
                    longer = 1 if key in replay_tables.IN_PROCESS else _REMOTE_TIMES
                    durations_s = contestant.time(name, longer * self._options.slice_s)
                    taken[f"{key} {name}"] = 1e6 * typical_s(durations_s)
                    p50_ms, p99_ms = (1e3 * np.percentile(durations_s, [50, 99])).tolist()
                    taken[f"{key} {name} p50"], taken[f"{key} {name} p99"] = p50_ms, p99_ms


def typical_s(durations_s: Sequence[float] | np.ndarray) -> float:
    """Return the median over blocks of calls in a row of the time of a call, so that what is put off counts."""
    whole = len(durations_s) // _BLOCK * _BLOCK
    if not whole:
        return float(np.mean(durations_s))
    return float(np.median(np.reshape(durations_s[:whole], (-1, _BLOCK)).mean(axis=1)))


def _in_process(kind: str, sizes: Sequence[int]) -> Callable[[], Contestant]:
    return lambda: replay_contestants.ours(kind, sizes)


def _over_http(urls: dict[int, str], include: str) -> Callable[[], Contestant]:
    return lambda: replay_contestants.ours_over_http(urls, include)


def _experiences(random: np.random.Generator, count: int) -> list[Experience]:
    vectors = random.standard_normal((count, _DIMENSION), np.float32)
    return [
        Experience(visual=row, confidence=confidence, reward=reward, metadata={"observation": row.tobytes()})
        for row, confidence, reward in zip(
            vectors, random.random(count).tolist(), random.random(count).tolist(), strict=True
        )
    ]


def _options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="in process")
    parser.add_argument("--remote-sizes", type=int, nargs="*", default=[10_000, 100_000], help="between processes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a slice")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--json", type=Path, help="also write the figures of every round to this file")
    given = parser.parse_args()
    sizes, remote_sizes = tuple(given.sizes), tuple(given.remote_sizes)
    return Options(sizes, remote_sizes, given.rounds, given.seconds, tuple(given.peers), given.json)


def main() -> None:
    """Print the tables."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    with tempfile.TemporaryDirectory(prefix="xbuf-replay-") as name:
        run = Run(options, Path(name), console)
        run.go()
    for table in replay_tables.tables(run.rounds, run.labels, options.sizes, options.remote_sizes):
        console.print(table)
    cores = (
        f"{os.cpu_count()} cores, clients and servers on them; median (lowest to highest) of {options.rounds} rounds"
    )
    for note in [cores, replay_tables.PUBLISHED_NOTE, *run.notes]:
        console.print(f"- {note}")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode(run.rounds.rounds))


if __name__ == "__main__":
    main()
