"""Searches beside appends, rebuilds and switches, and beside peers. Run: python -m benchmarks mixed.

Each contestant in turn is searched on 16 connections without a break: first alone, then beside single durable appends
(200 per second unless told otherwise), then alone again. Ours is meanwhile rebuilt and switched twice, by the program
and with the niceness that the service uses for that. The peers keep their index up to date as they take rows. Latencies
over all that time go to a file, from which ``--plot`` draws the picture of the README.

One in twenty of our answers is checked: ten different known rows, the best first, each with its true score. A prober
appends a row, searches for it, removes it and searches again, several times a second; every miss counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks import mixed_ours, mixed_plot, mixed_tables
from benchmarks.mixed_timeline import Timeline, timeline
from benchmarks.peers.contestant import Contestant, finish, pacing, read_samples, start, timing
from benchmarks.search import add_corpus, corpus_of, joined
from benchmarks.search_data import Corpus
from benchmarks.stolen import Stolen

IDLE_S = 10.0
PEER_BESIDE_S_MAX = 90.0
"""Longer than ours takes for two rebuilds on a machine that does nothing else."""
_WIDTH = 160


def peer_timeline(contestant: Contestant, folder: Path, beside_s: float, load: mixed_ours.Load) -> Timeline:
    """Search a peer, and insert into it for ``beside_s`` seconds in the middle of that."""
    searched, inserted = folder / "searched.f64", folder / "inserted.f64"
    command = [*contestant.inserting(int(load.rate * beside_s) + 1), *pacing(load.rate, beside_s, inserted)]
    contestant.answers()
    began = time.monotonic()
    total_s = 2 * IDLE_S + beside_s + 1.0
    searching = start([*contestant.searching, *timing(load.connections, total_s, 0.5, searched)])
    time.sleep(IDLE_S)
    inserting = start(command)
    beside = time.monotonic()
    finish(inserting)
    ended = time.monotonic()
    finish(searching)
    marks = {"beside": beside - began, "alone": ended - began}
    return timeline(contestant.label, began, read_samples(searched), read_samples(inserted), marks)


def peers_timelines(
    corpus: Corpus, folder: Path, given: argparse.Namespace, beside_s: float, notes: list[str], console: Console
) -> dict[str, Timeline]:
    """Measure each peer, one after the other."""
    timelines = {}
    load = mixed_ours.Load(given.connections, given.rate)
    for name in given.peers:
        with ExitStack() as stack:
            for contestant in joined(stack, corpus, folder, (name,), notes).values():
                console.print(f"{contestant.label}: {beside_s:.0f} s beside inserts", style="dim")
                timelines[name] = peer_timeline(contestant, folder, beside_s, load)
    return timelines


def main() -> None:
    """Print the tables, and write and draw the timelines where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_corpus(parser)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rate", type=float, default=200.0, help="appends per second")
    parser.add_argument("--rebuilds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the timelines to this file")
    parser.add_argument("--plot", type=Path, help="also draw them as SVG")
    given = parser.parse_args()
    corpus = corpus_of(given)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    notes: list[str] = []
    stolen = Stolen()
    with tempfile.TemporaryDirectory(prefix="xbuf-bench-") as name:
        folder = Path(name)
        load = mixed_ours.Load(given.connections, given.rate)
        ours = mixed_ours.measured(corpus, folder, load, given.rebuilds, IDLE_S, console)
        ours_s = ours.timeline.marks["alone"] - ours.timeline.marks["beside"]
        beside_s = min(PEER_BESIDE_S_MAX, ours_s)
        timelines = {"ours": ours.timeline}
        timelines |= peers_timelines(corpus, folder, given, beside_s, notes, console)
    for table in mixed_tables.tables(timelines, ours):
        console.print(table)
    for note in [stolen.note(), *notes]:
        console.print(f"- {note}")
    if given.json is not None:
        given.json.write_bytes(msgspec.json.encode(timelines))
    if given.plot is not None:
        given.plot.write_text(mixed_plot.picture(timelines))


if __name__ == "__main__":
    main()
