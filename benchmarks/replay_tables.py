"""The tables of a run of replay: what a call takes, and what has to be reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product

from rich.table import Table

from benchmarks.rounds import Bar, Rounds

BACKENDS = ("file", "lmdb")
INCLUDES = ("ids", "vectors", "experiences")
_WITH_CONTENT = ("vectors", "experiences")
"""The peers return 64 float32 and a reward: more than our vectors, less than our experiences."""
PUBLISHED_MS = 1.7
PUBLISHED_NOTE = f"TorchRL's own figure for rows in Redis, {PUBLISHED_MS} ms, is from pytorch/rl, pull request 3516"
_OPERATIONS = {"add": "add", "sample": "sample", "update": "update", "step": "sample and update of what was drawn"}
OURS = ("sampler", "bent", "writer")
"""In process, see ``replay_ours``."""
IN_PROCESS = (*OURS, "cpprb", "torchrl")
_WITH_BARS = {"sampler": "", "bent": "α as theirs: "}
_REMOTE = (*(f"{backend} {include}" for backend in BACKENDS for include in INCLUDES), "reverb", "redis")
_GROWTH_MAX = 2.0


def tables(
    rounds: Rounds, labels: Mapping[str, str], sizes: Sequence[int], remote_sizes: Sequence[int]
) -> Iterator[Table]:
    """Yield all tables; ``labels`` name those that took part."""
    if sizes:
        yield _in_process(rounds, labels, sizes)
    if remote_sizes:
        yield _remote(rounds, labels, remote_sizes)
    verdicts = Table("bar", "measured", "needed", "", title="What has to be reached")
    for bar in bars(sizes, remote_sizes):
        verdicts.add_row(*bar.row(rounds))
    yield verdicts


def bars(sizes: Sequence[int], remote_sizes: Sequence[int]) -> Iterator[Bar]:
    """Yield what has to be reached at these sizes."""
    for key, prefix in _WITH_BARS.items():
        for operation, name, peer in (("sample", "cpprb", "cpprb"), ("update", "TorchRL", "torchrl")):
            for size in sizes:
                ours, theirs = (f"{contestant} {operation} {size}" for contestant in (key, peer))
                yield _ratio(f"{prefix}{operation} at {size:,}, times {name}", ours, theirs)
            if len(sizes) > 1:
                over, under = (f"{key} {operation} {size}" for size in (max(sizes), min(sizes)))
                bar = f"{prefix}{operation} at {max(sizes):,}, times that at {min(sizes):,}"
                yield _ratio(bar, over, under, _GROWTH_MAX)
    for backend, include, size in product(BACKENDS, _WITH_CONTENT, remote_sizes):
        ours, name = f"{backend} {include} sample {size} p50", f"{backend}: p50 of sample with {include} at {size:,}"
        yield _ratio(f"{name}, times Reverb", ours, f"reverb sample {size} p50")
        yield _ratio(f"{name}, times TorchRL in Redis here", ours, f"redis sample {size} p50")
        yield Bar(f"{name}, ms, TorchRL's own figure", PUBLISHED_MS, at_least=False, figure=partial(_figure, ours))


def _in_process(rounds: Rounds, labels: Mapping[str, str], sizes: Sequence[int]) -> Table:
    table = Table("", "", *(f"{size:,}" for size in sizes), title="In process, batches of 256: µs for a call")
    for operation, name in _OPERATIONS.items():
        for key in IN_PROCESS:
            cells = (rounds.cell(f"{key} {operation} {size}") for size in sizes)
            table.add_row(name, labels.get(key, key), *cells, end_section=key == IN_PROCESS[-1])
    return table


def _remote(rounds: Rounds, labels: Mapping[str, str], sizes: Sequence[int]) -> Table:
    headings = [f"{part} at {size:,}" for size in sizes for part in ("p50", "p99")]
    table = Table("", *headings, title="Between processes: ms for a sample of 256")
    for key in _REMOTE:
        cells = (rounds.cell(f"{key} sample {size} {part}", ".2f") for size in sizes for part in ("p50", "p99"))
        backend, _, include = key.partition(" ")
        table.add_row(f"ours, {backend}: {include}" if include else labels.get(key, key), *cells)
    return table


def _ratio(name: str, over: str, under: str, most: float = 1.0) -> Bar:
    return Bar(name, most, at_least=False, figure=partial(_divided, over, under))


def _divided(over: str, under: str, taken: dict[str, float]) -> float:
    return taken[over] / taken[under]


def _figure(name: str, taken: dict[str, float]) -> float:
    return taken[name]
