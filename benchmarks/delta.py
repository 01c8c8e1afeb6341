"""What fresh rows cost a search, by their number: in inverted lists under the main index's centroids, and scanned.

In process, CPU time of one thread. All sizes and both kinds take turns within each round, because machines drift. Run:
python -m benchmarks delta.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.datasets import Vectors, clustered
from benchmarks.rounds import Rounds, spread
from benchmarks.workload import DIMENSION
from buffer_service.contract.pointer import INITIAL
from buffer_service.index.delta import Delta
from buffer_service.index.engine import Engine
from buffer_service.index.export import Exporter, ExportPoint
from buffer_service.index.generations import load
from buffer_service.index.main import MainIndex
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import RebuildRequest, rebuild
from buffer_service.index.view import View

FRESH = (0, 1_000, 5_000, 20_000, 100_000)
BATCHES = (1, 16)
QUERIES = 512
_CPU_S_PER_FIGURE = 0.4
_GROUP = 64


def main_index(folder: Path, rows: Vectors) -> MainIndex:
    """Build a generation of these rows with the program that the service uses, and load it."""
    ids = np.arange(1, len(rows) + 1, dtype=np.int64)
    point = ExportPoint(len(rows), len(rows), ids)
    Exporter(folder / "export", DIMENSION, "cosine").write(point, lambda wanted: (wanted, rows[wanted - 1]))
    request = RebuildRequest(
        export=folder / "export", indexes=folder / "indexes", generation=1, index_type="ivf", storage="sq8",
        device="cpu", build_on="cpu", n_probes=2, recall_floor=0.95, keep=2, threads=os.cpu_count() or 1, revision=None,
    )  # fmt: skip
    pointer = rebuild(request, FolderPointer(folder / "pointer"))
    return load(Engine("cpu"), folder / "indexes", pointer, DIMENSION, "cosine")


def view_of(main: MainIndex, fresh: Vectors, *, filed: bool) -> tuple[View, float]:
    """Return a view with these fresh rows, and the microseconds that filing one took in groups of 64."""
    delta = Delta(DIMENSION, "cosine", max(1, len(fresh)), main.fresh_lists() if filed else None)
    first = int(main.ids[-1]) + 1
    began = time.thread_time()
    for start in range(0, len(fresh), _GROUP):
        rows = fresh[start : start + _GROUP]
        delta.append(np.arange(first + start, first + start + len(rows), dtype=np.int64), rows)
    filing_us = 1e6 * (time.thread_time() - began) / max(1, len(fresh))
    return View(1, INITIAL, main, delta, delta.count), filing_us


def query_us(view: View, queries: Vectors, batch: int) -> float:
    """Return the microseconds per query in batches."""
    began, done = time.thread_time(), 0
    while time.thread_time() - began < _CPU_S_PER_FIGURE:
        start = done % (QUERIES - batch + 1)
        view.search(queries[start : start + batch], 10)
        done += batch
    return 1e6 * (time.thread_time() - began) / done


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rows, fresh, queries = clustered(given.rows, 0), clustered(max(FRESH), 1), clustered(QUERIES, 2)
    with tempfile.TemporaryDirectory(prefix="xbuf-delta-") as name:
        index = main_index(Path(name), rows)
        made = {
            (kind, count): view_of(index, fresh[:count], filed=kind == "filed")
            for kind in ("filed", "scanned")
            for count in FRESH
        }
        rounds = Rounds()
        for _ in range(given.rounds):
            taken = rounds.begin()
            for (kind, count), (view, _) in made.items():
                for batch in BATCHES:
                    taken[f"{kind} {count} {batch}"] = query_us(view, queries, batch)
        _print(given.rows, index, rounds, {count: made["filed", count][1] for count in FRESH})


def _print(rows: int, index: MainIndex, rounds: Rounds, filing_us: dict[int, float]) -> None:
    columns = [f"{kind}, batch {batch}" for batch in BATCHES for kind in ("filed", "scanned")]
    title = f"CPU µs per query over {rows} x {DIMENSION} ({index.manifest.index_type}, {index.manifest.parameters}): "
    table = Table(
        "fresh rows", *columns, "filed: times none, batch 16", "µs to file a row", title=f"{title} median (range)"
    )
    for count in FRESH:
        cells = [rounds.cell(f"{kind} {count} {batch}") for batch in BATCHES for kind in ("filed", "scanned")]
        times = rounds.values(lambda taken, count=count: taken[f"filed {count} 16"] / taken["filed 0 16"])  # type: ignore[misc]
        table.add_row(f"{count:,}", *cells, spread(times, ".2f"), f"{filing_us[count]:.1f}")
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
