"""Durable appends beside their limits and their peers, in one interleaved run. Run: make bench.

An append is one experience of 512 float32 and 500 bytes of metadata in a request of its own, answered when it is
durable and found by searches. Client and servers share the cores; the generator is the same for the bare application
and for the service. The combined limit is 1 / (1/A + 1/B + 1/C): A, requests per second of a bare application that
decodes and checks the same bodies; B, records per second of the raw store and C, rows per second filed in the index,
both in groups of the size that the service had in that slice. An index is in place on the same number of rows, for us
and for PostgreSQL; no rebuild runs beside the appends, but beside the searches everything is as it is by default.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks import append_tables, raw_limits
from benchmarks.load import Measured, finish, start
from benchmarks.peers import postgres, sqlite
from benchmarks.peers.contestant import UnavailableError
from benchmarks.processes import Server, fill, indexed_service, listening, service
from benchmarks.rounds import Rounds
from benchmarks.stolen import Stolen

PEERS = ("postgres", "sqlite")
_WARM_UP_S = 0.3
_WIDTH = 160
_GROUPS_METRIC = "xbuf_write_groups_total"
_OPERATIONS_METRIC = "xbuf_write_operations_total"


@dataclass(frozen=True, slots=True)
class Options:
    """What is run, and for how long."""

    connections: tuple[int, ...]
    rounds: int
    slice_s: float
    rows: int
    """Rows in each service and in PostgreSQL's tables at the start."""
    peers: tuple[str, ...]
    json: Path | None


class Run:
    """One interleaved run over servers that are all up from its start to its end."""

    def __init__(self, options: Options, folder: Path, console: Console) -> None:
        self._options = options
        self._folder = folder
        self._console = console
        self.rounds = Rounds()
        self.notes: list[str] = []

    def go(self) -> None:
        """Start the servers, take all rounds, end the servers."""
        with ExitStack() as stack:
            bare = stack.enter_context(listening(["benchmarks.bare_app"]))
            ours = {
                name: stack.enter_context(indexed_service(self._folder / name, name, self._options.rows))
                for name in append_tables.BACKENDS
            }
            read = {name: stack.enter_context(self._searched(name)) for name in append_tables.BACKENDS}
            database = stack.enter_context(self._postgres())
            for number in range(self._options.rounds):
                taken = self.rounds.begin()
                self._disk(taken)
                for connections in self._options.connections:
                    self._console.print(f"round {number + 1}, {connections} connections", style="dim")
                    self._ours(taken, connections, bare, ours)
                    self._peers(taken, connections, database)
                for name, server in read.items():
                    self._searches(taken, name, server)

    @contextmanager
    def _searched(self, backend: str) -> Iterator[Server]:
        """Run a service with default settings, rebuilds among them, whose searches are timed."""
        with service(self._folder / f"{backend}-searched", backend) as server:
            fill(server, self._options.rows)
            yield server

    @contextmanager
    def _postgres(self) -> Iterator[postgres.Postgres | None]:
        if "postgres" not in self._options.peers:
            self.notes.append("PostgreSQL was left out by --peers")
            yield None
            return
        with ExitStack() as stack:
            database = None
            try:
                database = stack.enter_context(postgres.running(self._folder, self._options.rows))
                self.notes.append(f"{database.version}, {self._options.rows} rows at the start")
            except UnavailableError as error:
                self.notes.append(f"[bold red]PostgreSQL was NOT measured:[/] {error}")
            yield database

    def _disk(self, taken: dict[str, float]) -> None:
        taken["disk"], taken["disk p99"] = raw_limits.fdatasync(self._folder, self._options.slice_s / 2)
        taken["disk ahead"], _ = raw_limits.fdatasync(self._folder, self._options.slice_s / 2, ahead=True)
        taken["disk shared"], _ = raw_limits.fdatasync(self._folder, self._options.slice_s / 2, append_tables.SHARERS)

    def _ours(self, taken: dict[str, float], connections: int, bare: Server, ours: dict[str, Server]) -> None:
        self._note(taken, f"A {connections}", self._slice(bare, "append", connections))
        for name, server in ours.items():
            before = _counters(server)
            self._note(taken, f"{name} {connections}", self._slice(server, "append", connections))
            group = self._group(before, _counters(server), connections)
            raw = raw_limits.raw_log if name == "file" else raw_limits.raw_lmdb
            taken[f"{name} {connections} group"] = group
            taken[f"{name} {connections} B"] = raw(self._folder, round(group), self._options.slice_s)
            taken[f"{name} {connections} C"] = raw_limits.index_filing(
                self._folder / name, round(group), self._options.slice_s / 4
            )

    def _group(self, before: dict[str, float], after: dict[str, float], connections: int) -> float:
        """Return the mean number of appends that shared a commit."""
        if _GROUPS_METRIC not in after:
            note = f"[bold red]no metric {_GROUPS_METRIC}: groups of half the connections are assumed[/]"
            if note not in self.notes:
                self.notes.append(note)
            return max(1.0, connections / 2)
        groups = after[_GROUPS_METRIC] - before[_GROUPS_METRIC]
        return max(1.0, (after[_OPERATIONS_METRIC] - before[_OPERATIONS_METRIC]) / max(1.0, groups))

    def _peers(self, taken: dict[str, float], connections: int, database: postgres.Postgres | None) -> None:
        slice_s = self._options.slice_s
        if database is not None:
            for table in postgres.TABLES:
                measured = database.insert(table, connections, slice_s, _WARM_UP_S)
                self._note(taken, f"postgres {table} {connections}", measured)
        if "sqlite" in self._options.peers:
            measured = sqlite.insert(self._folder, connections, slice_s, _WARM_UP_S)
            self._note(taken, f"sqlite {connections}", measured)

    def _searches(self, taken: dict[str, float], name: str, server: Server) -> None:
        """Time searches without writes, beside appends on 16 connections, and without again, for the table grows."""
        before = self._slice(server, "search", 1)
        writes = start(server.url, "append", 16, self._options.slice_s + 1.0)
        during = self._slice(server, "search", 1)
        written = finish(writes)
        after = self._slice(server, "search", 1)
        taken[f"{name} search quiet p99"] = (before.p99_ms + after.p99_ms) / 2
        taken[f"{name} search loaded p99"] = during.p99_ms
        taken[f"{name} search quiet p50"] = (before.p50_ms + after.p50_ms) / 2
        taken[f"{name} search loaded p50"] = during.p50_ms
        taken[f"{name} appends beside"] = written.rate

    def _slice(self, server: Server, kind: str, connections: int) -> Measured:
        return finish(start(server.url, kind, connections, self._options.slice_s, _WARM_UP_S))

    def _note(self, taken: dict[str, float], name: str, measured: Measured) -> None:
        taken[name] = measured.rate
        taken[f"{name} p50"] = measured.p50_ms
        taken[f"{name} p99"] = measured.p99_ms
        taken[f"{name} busy"] = measured.busy
        if measured.refused:
            self.notes.append(f"[bold red]{name}: {measured.refused} requests were refused[/]")


def _counters(server: Server) -> dict[str, float]:
    """Return the counters of writes, as far as the service has them."""
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:  # noqa: S310 - the address is that of our own process
        lines = answer.read().decode().splitlines()
    pairs = [line.split() for line in lines if line.startswith((_GROUPS_METRIC, _OPERATIONS_METRIC))]
    return {name: float(value) for name, value in pairs}


def _options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a slice")
    parser.add_argument("--rows", type=int, default=10_000, help="rows that are there at the start")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--json", type=Path, help="also write the figures of every round to this file")
    given = parser.parse_args()
    return Options(tuple(given.connections), given.rounds, given.seconds, given.rows, tuple(given.peers), given.json)


def main() -> None:
    """Print the tables."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    stolen = Stolen()
    with tempfile.TemporaryDirectory(prefix="xbuf-bench-") as name:
        run = Run(options, Path(name), console)
        run.go()
    for table in append_tables.tables(run.rounds, options.connections):
        console.print(table)
    cores = f"{os.cpu_count()} cores, client and server on them; median (lowest to highest) of {options.rounds} rounds"
    for note in [cores, stolen.note(), *dict.fromkeys(run.notes)]:
        console.print(f"- {note}")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode(run.rounds.rounds))


if __name__ == "__main__":
    main()
