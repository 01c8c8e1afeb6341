"""The tables of a run of searches: rates, latencies, limits, recall, and what has to be reached."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

from rich.table import Table

from benchmarks.rounds import Bar, Rounds, spread

_OURS = "ours"
_TIMES = {"pgvector": 4.0, "chroma": 8.0}
"""How many times a peer's searches per second have to be reached."""
_SHARE = 0.9
_TAIL = 2.0


def combined(taken: dict[str, float], connections: int) -> float:
    """Return the searches per second that the two limits allow one after the other."""
    raw = max(taken[f"B {connections}"], taken[f"B one thread {connections}"])
    return 1 / (1 / taken[f"A {connections}"] + 1 / raw)


def tables(
    rounds: Rounds, connections: tuple[int, ...], labels: dict[str, str], recalls: dict[str, float]
) -> Iterator[Table]:
    """Yield all tables."""
    yield _rates(rounds, connections, labels, recalls)
    yield _latencies(rounds, connections, labels)
    yield _limits(rounds, connections)
    verdicts = Table("bar", "measured", "needed", "", title="What has to be reached")
    for count in connections:
        if count > 1:
            for bar in _bars(count, labels):
                verdicts.add_row(*bar.row(rounds))
    yield verdicts


def _headings(connections: tuple[int, ...]) -> list[str]:
    return [f"{count} connection{'s' if count > 1 else ''}" for count in connections]


def _rates(rounds: Rounds, connections: tuple[int, ...], labels: dict[str, str], recalls: dict[str, float]) -> Table:
    table = Table("", "recall@10", *_headings(connections), title="Searches per second")
    for name, label in labels.items():
        table.add_row(label, f"{recalls[name]:.3f}", *(rounds.cell(f"{name} {count}") for count in connections))
    return table


def _latencies(rounds: Rounds, connections: tuple[int, ...], labels: dict[str, str]) -> Table:
    title = "Latency of a search in ms: median; 99th percentile; 99th percentile / median"
    table = Table("", *_headings(connections), title=title)
    for name, label in {"A": "bare application", **labels}.items():
        cells = []
        for count in connections:
            at = f"{name} {count}"
            tail = rounds.values(partial(_ratio, over=f"{at} p99", under=f"{at} p50"))
            times = f"{statistics.median(tail):.1f}" if tail else ""
            cells.append(f"{rounds.cell(f'{at} p50', '.2f')}\n{rounds.cell(f'{at} p99', '.2f')}\n{times}")
        table.add_row(label, *cells)
    return table


def _limits(rounds: Rounds, connections: tuple[int, ...]) -> Table:
    table = Table("", *_headings(connections), title="Limits, searches per second")
    rows = {
        "A: bare application, the same bytes": ("A {}", ",.0f"),
        "cores that the generator took of it": ("A {} busy", ".2f"),
        "queries in a batch of the service": ("batch {}", ".1f"),
        "B: raw FAISS in such batches, all cores": ("B {}", ",.0f"),
        "B on one thread": ("B one thread {}", ",.0f"),
    }
    for label, (name, style) in rows.items():
        table.add_row(label, *(rounds.cell(name.format(count), style) for count in connections))
    shares = (spread(rounds.values(partial(_share, connections=count)), ".2f") for count in connections)
    table.add_row("share of the combined limit", *shares)
    return table


def _bars(count: int, labels: dict[str, str]) -> Iterator[Bar]:
    at = f"{_OURS} {count}"
    yield Bar(
        f"share of the combined limit at {count} connections",
        _SHARE,
        at_least=True,
        figure=partial(_share, connections=count),
    )
    for peer, times in _TIMES.items():
        if peer in labels:
            yield Bar(
                f"times {peer} at {count} connections",
                times,
                at_least=True,
                figure=partial(_ratio, over=at, under=f"{peer} {count}"),
                style=".1f",
            )
    yield Bar(
        f"p99 / p50 at {count} connections",
        _TAIL,
        at_least=False,
        figure=partial(_ratio, over=f"{at} p99", under=f"{at} p50"),
        style=".1f",
    )


def _ratio(taken: dict[str, float], over: str, under: str) -> float:
    return taken[over] / taken[under]


def _share(taken: dict[str, float], connections: int) -> float:
    return taken[f"{_OURS} {connections}"] / combined(taken, connections)
