"""Searches beside their limits and their peers, in one interleaved run. Run: python -m benchmarks search.

A search is one vector of 512 float32 in a request of its own, answered with its ten nearest rows and their scores.
Every contestant holds the same rows: most of them in an index that was built of them, and the fresh rows, which came
later. Each has the least effort with which its recall@10 against an exact search reaches 0.95, checked before the
rounds. Client and servers share the cores, and all but Milvus Lite and PostgreSQL are driven by the same generator.

The combined limit is 1 / (1/A + 1/B): A, requests per second of a bare ASGI application that receives and answers the
same bytes; B, raw FAISS in process on the same index file, in batches of the size that the service had in that slice,
on one thread or on all cores, whichever is quicker. B searches the indexed rows alone, compares all centroids, and does
not rank what it finds by the exact vectors.
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
from rich.console import Console

from benchmarks import search_ours, search_tables
from benchmarks.load import Measured
from benchmarks.peers import chroma, milvus, pgvector, qdrant
from benchmarks.peers.contestant import (
    Contestant,
    UnavailableError,
    finish,
    over_http,
    start,
    timing,
    whole_requests,
)
from benchmarks.processes import Server, listening
from benchmarks.rounds import Rounds
from benchmarks.search_data import DATA, RECALL_FLOOR, Corpus
from benchmarks.search_limits import RawIndex
from benchmarks.stolen import Stolen

PEERS: dict[str, Callable[[Corpus, Path], AbstractContextManager[Contestant]]] = {
    "pgvector": pgvector.running,
    "chroma": chroma.running,
    "milvus": milvus.running,
    "qdrant-edge": qdrant.running,
}
OURS = "ours"
_WARM_UP_S = 0.3
_WIDTH = 180


@dataclass(frozen=True, slots=True)
class Options:
    """What is run, and for how long."""

    corpus: Corpus
    connections: tuple[int, ...]
    rounds: int
    slice_s: float
    peers: tuple[str, ...]
    json: Path | None


class Run:
    """One interleaved run over servers that are all up from its start to its end."""

    def __init__(self, options: Options, folder: Path, console: Console) -> None:
        self._options = options
        self._folder = folder
        self._console = console
        self.rounds = Rounds()
        self.labels: dict[str, str] = {}
        self.recalls: dict[str, float] = {}
        self.notes: list[str] = []

    def go(self) -> None:
        """Start the servers, check the recall of each, take all rounds, end the servers."""
        corpus = self._options.corpus
        with ExitStack() as stack:
            bare = self._bare(stack.enter_context(listening(["benchmarks.search_bare"])))
            server = stack.enter_context(search_ours.copied(corpus, self._folder / OURS))
            contestants = {OURS: search_ours.contestant(corpus, server, self._folder / OURS)}
            raw = RawIndex(self._folder / OURS)
            contestants |= joined(stack, corpus, self._folder, self._options.peers, self.notes)
            for name, contestant in contestants.items():
                self.labels[name] = contestant.label
                self.recalls[name] = corpus.recall(contestant.answers())
                self._console.print(f"{contestant.label}: recall@10 {self.recalls[name]:.4f}", style="dim")
            for number in range(self._options.rounds):
                taken = self.rounds.begin()
                for connections in self._options.connections:
                    self._console.print(f"round {number + 1}, {connections} connections", style="dim")
                    self._note(taken, f"A {connections}", bare, connections)
                    self._ours(taken, connections, contestants[OURS], server, raw)
                    for name in contestants.keys() - {OURS}:
                        self._note(taken, f"{name} {connections}", contestants[name].searching, connections)

    def _bare(self, server: Server) -> list[str]:
        bodies = [query.astype("<f4").tobytes() for query in self._options.corpus.load]
        requests = whole_requests(server.url, search_ours.SEARCH_PATH, bodies, search_ours.OCTETS)
        return over_http(server.url, requests, self._folder / "bare-searches")

    def _ours(
        self, taken: dict[str, float], connections: int, contestant: Contestant, server: Server, raw: RawIndex
    ) -> None:
        before = search_ours.counters(server, "xbuf_search_batch")
        self._note(taken, f"{OURS} {connections}", contestant.searching, connections)
        after = search_ours.counters(server, "xbuf_search_batch")
        batches, queries = (
            after[name] - before[name] for name in ("xbuf_search_batches_total", "xbuf_search_batched_queries_total")
        )
        taken[f"batch {connections}"] = queries / max(1.0, batches)
        for name, threads in (("B", os.cpu_count() or 1), ("B one thread", 1)):
            taken[f"{name} {connections}"] = raw.rate(
                self._options.corpus.load,
                max(1, round(taken[f"batch {connections}"])),
                threads,
                self._options.slice_s / 4,
            )

    def _note(self, taken: dict[str, float], name: str, command: Sequence[str], connections: int) -> None:
        measured: Measured = finish(start([*command, *timing(connections, self._options.slice_s, _WARM_UP_S)]))
        taken[name] = measured.rate
        taken[f"{name} p50"] = measured.p50_ms
        taken[f"{name} p99"] = measured.p99_ms
        taken[f"{name} busy"] = measured.busy
        if measured.refused:
            self.notes.append(f"[bold red]{name}: {measured.refused} requests were refused[/]")


def joined(
    stack: ExitStack, corpus: Corpus, folder: Path, peers: tuple[str, ...], notes: list[str]
) -> dict[str, Contestant]:
    """Start the peers; what cannot be had is noted, and the others go on."""
    contestants = {}
    for name in peers:
        try:
            contestants[name] = stack.enter_context(PEERS[name](corpus, folder / name))
        except (UnavailableError, RuntimeError, OSError) as error:
            notes.append(f"[bold red]{name} was NOT measured:[/] {error}")
    return contestants


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what is searched."""
    parser.add_argument("--data", choices=sorted(DATA), default="clustered")
    parser.add_argument("--size", type=int, default=100_000, help="rows in the index")
    parser.add_argument("--fresh", type=int, help="rows that came after it (default: a twentieth)")
    parser.add_argument("--peers", nargs="*", choices=sorted(PEERS), default=list(PEERS))


def corpus_of(given: argparse.Namespace) -> Corpus:
    """Return what the arguments say."""
    return Corpus(given.data, given.size, given.size // 20 if given.fresh is None else given.fresh)


def _options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_corpus(parser)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a slice")
    parser.add_argument("--json", type=Path, help="also write the figures of every round to this file")
    given = parser.parse_args()
    return Options(
        corpus_of(given), tuple(given.connections), given.rounds, given.seconds, tuple(given.peers), given.json
    )


def main() -> None:
    """Print the tables."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    stolen = Stolen()
    with tempfile.TemporaryDirectory(prefix="xbuf-bench-") as name:
        run = Run(options, Path(name), console)
        run.go()
    for table in search_tables.tables(run.rounds, options.connections, run.labels, run.recalls):
        console.print(table)
    corpus = options.corpus
    rows = f"{corpus.data} data: {corpus.size:,} rows indexed, {corpus.fresh:,} fresh, 512 float32"
    where = f"{os.cpu_count()} cores, client and servers on them"
    notes = [
        f"{rows}; {where}; median (lowest to highest) of {options.rounds} rounds",
        stolen.note(),
        *(f"[bold red]{run.labels[name]} has recall {recall:.3f}[/]" for name, recall in run.recalls.items()
          if recall < RECALL_FLOOR),
        *dict.fromkeys(run.notes),
    ]  # fmt: skip
    for note in notes:
        console.print(f"- {note}")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode({"rounds": run.rounds.rounds, "recalls": run.recalls}))


if __name__ == "__main__":
    main()
