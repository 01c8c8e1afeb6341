"""The tables of a run of appends: rates, limits and latencies, and what has to be reached."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from rich.table import Table

from benchmarks.rounds import Bar, Rounds

BACKENDS = ("file", "lmdb")
SHARERS = 64
"""Appenders that share one sync in the disk's second figure."""
_CONTESTANTS = {
    "file": "ours, file",
    "lmdb": "ours, lmdb",
    "postgres hnsw": "PostgreSQL, HNSW in place",
    "postgres plain": "PostgreSQL, no vector index",
    "sqlite": "SQLite, no vector index",
}


def combined(taken: dict[str, float], backend: str, connections: int) -> float:
    """Return the appends per second that the three limits allow one after the other."""
    at = f"{backend} {connections}"
    return 1 / (1 / taken[f"A {connections}"] + 1 / taken[f"{at} B"] + 1 / taken[f"{at} C"])


def tables(rounds: Rounds, connections: tuple[int, ...]) -> Iterator[Table]:
    """Yield all tables."""
    yield _rates(rounds, connections)
    yield _latencies(rounds, connections)
    yield _limits(rounds, connections)
    yield _searches(rounds)
    verdicts = Table("bar", "measured", "needed", "", title="What has to be reached")
    for bar in _bars(connections):
        verdicts.add_row(*bar.row(rounds))
    yield verdicts


def _rates(rounds: Rounds, connections: tuple[int, ...]) -> Table:
    table = Table("", *_headings(connections), title="Acknowledged durable appends per second")
    for key, name in _CONTESTANTS.items():
        table.add_row(name, *(rounds.cell(f"{key} {count}") for count in connections))
    return table


def _latencies(rounds: Rounds, connections: tuple[int, ...]) -> Table:
    table = Table("", *_headings(connections), title="Latency of an append in ms: median; 99th percentile")
    for key, name in {"A": "bare application", **_CONTESTANTS}.items():
        cells = [
            f"{rounds.cell(f'{key} {count} p50', '.2f')}\n{rounds.cell(f'{key} {count} p99', '.2f')}"
            for count in connections
        ]
        table.add_row(name, *cells)
    return table


def _limits(rounds: Rounds, connections: tuple[int, ...]) -> Table:
    table = Table("", *_headings(connections), title="Limits, per second")
    table.add_row("A: bare application", *(rounds.cell(f"A {count}") for count in connections))
    busy = (rounds.cell(f"A {count} busy", ".2f") for count in connections)
    table.add_row("cores that the generator took of it", *busy)
    for name in BACKENDS:
        at = [f"{name} {count}" for count in connections]
        table.add_row(f"{name}: appends in a commit", *(rounds.cell(f"{place} group", ".1f") for place in at))
        table.add_row(f"{name}: B: raw store", *(rounds.cell(f"{place} B") for place in at))
        table.add_row(f"{name}: C: filed in the index", *(rounds.cell(f"{place} C") for place in at))
    none = [""] * (len(connections) - 1)
    table.add_row("disk: fdatasync after 4 KiB", rounds.cell("disk"), *none)
    table.add_row("disk: its 99th percentile, ms", rounds.cell("disk p99", ".2f"), *none)
    table.add_row("disk: fdatasync after 4 KiB in place of zeroes", rounds.cell("disk ahead"), *none)
    table.add_row(f"disk: {SHARERS} appenders of 4 KiB sharing one", rounds.cell("disk shared"), *none)
    return table


def _searches(rounds: Rounds) -> Table:
    title = (
        "Searches of one vector for its 10 nearest, without and with appends on 16 connections, default settings; ms"
    )
    table = Table("", "without", "with", "appends per second beside", title=title)
    for name in BACKENDS:
        for part in ("p50", "p99"):
            cells = [rounds.cell(f"{name} search {when} {part}", ".2f") for when in ("quiet", "loaded")]
            table.add_row(f"{name}: {part}", *cells, rounds.cell(f"{name} appends beside"))
    return table


def _headings(connections: tuple[int, ...]) -> list[str]:
    return [f"{count} connection{'s' if count > 1 else ''}" for count in connections]


def _bars(connections: tuple[int, ...]) -> Iterator[Bar]:
    for name in BACKENDS:
        for count in [count for count in connections if count > 1]:
            yield from _throughput(name, count)
    for name in BACKENDS:
        yield Bar(
            f"{name}: p99 at 16 connections, times the disk's p99 fdatasync",
            10.0,
            at_least=False,
            figure=partial(_ratio, over=f"{name} 16 p99", under="disk p99"),
            style=".1f",
        )
        yield Bar(
            f"{name}: p99 of searches with appends, times that without",
            1.5,
            at_least=False,
            figure=partial(_ratio, over=f"{name} search loaded p99", under=f"{name} search quiet p99"),
        )


def _ratio(taken: dict[str, float], over: str, under: str) -> float:
    return taken[over] / taken[under]


def _throughput(name: str, count: int) -> Iterator[Bar]:
    at = f"{name} {count}"
    yield Bar(
        f"{name}: share of the combined limit at {count} connections",
        0.9,
        at_least=True,
        figure=lambda taken: taken[at] / combined(taken, name, count),
    )
    yield Bar(
        f"{name}: times PostgreSQL with HNSW at {count} connections",
        10.0,
        at_least=True,
        figure=partial(_ratio, over=at, under=f"postgres hnsw {count}"),
        style=".1f",
    )
