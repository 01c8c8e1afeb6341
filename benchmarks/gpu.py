"""Searches per second on the GPU beside the CPU, by type of index and batch. Needs faiss-gpu and a GPU.

In process; both devices take turns within each round. The recall is measured against a scan.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.datasets import Vectors, clustered, unclustered
from benchmarks.rounds import Rounds
from benchmarks.workload import DIMENSION
from buffer_service.contract.pointer import INITIAL, Pointer
from buffer_service.index.delta import Delta
from buffer_service.index.engine import Engine
from buffer_service.index.export import Exporter, ExportPoint
from buffer_service.index.generations import load
from buffer_service.index.gpu import gpu_obstacle
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import RebuildRequest, rebuild
from buffer_service.index.view import View

KINDS = (("flat", "fp32"), ("ivf", "fp32"), ("ivf", "sq8"))
BATCHES = (1, 16, 64, 1024)
_DATA = {"clustered": clustered, "unclustered": unclustered}
_K = 10
_RECALL_QUERIES = 200
_SECONDS_PER_FIGURE = 0.5


def built(folder: Path, rows: Vectors, index_type: str, storage: str) -> Pointer:
    """Build a generation with the program that the service uses."""
    ids = np.arange(1, len(rows) + 1, dtype=np.int64)
    point = ExportPoint(len(rows), len(rows), ids)
    Exporter(folder / "export", DIMENSION, "cosine").write(point, lambda wanted: (wanted, rows[wanted - 1]))
    request = RebuildRequest(
        export=folder / "export", indexes=folder / "indexes", generation=1, index_type=index_type, storage=storage,
        device="gpu", build_on="cpu", n_probes=2, recall_floor=0.95, keep=2, threads=os.cpu_count() or 1, revision=None,
    )  # fmt: skip
    return rebuild(request, FolderPointer(folder / "pointer"))


def rate(view: View, queries: Vectors, batch: int) -> float:
    """Return the queries answered per second in batches of this size."""
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS_PER_FIGURE:
        start = done % (len(queries) - batch + 1)
        view.search(queries[start : start + batch], _K)
        done += batch
    return done / (time.perf_counter() - began)


def measure(name: str, count: int, rounds: int, engines: dict[str, Engine]) -> Table:
    """Return the table of one data set."""
    rows, queries = _DATA[name](count, 0), _DATA[name](max(BATCHES), 1)
    columns = [f"{device}, batch {batch}" for batch in BATCHES for device in engines]
    title = f"searches per second, {name}, {count} x {DIMENSION}"
    table = Table("index", "recall@10", "build s", *columns, title=title)
    for index_type, storage in KINDS:
        with tempfile.TemporaryDirectory(prefix="xbuf-gpu-") as folder:
            pointer = built(Path(folder), rows, index_type, storage)
            views = {}
            for device, engine in engines.items():
                main = load(engine, Path(folder) / "indexes", pointer, DIMENSION, "cosine")
                views[device] = View(1, INITIAL, main, Delta(DIMENSION, "cosine", 1), 0)
            taken = Rounds()
            for _ in range(rounds):
                figures = taken.begin()
                for batch in BATCHES:
                    for device, view in views.items():
                        figures[f"{device} {batch}"] = rate(view, queries, batch)
            cells = [taken.cell(f"{device} {batch}") for batch in BATCHES for device in engines]
            table.add_row(f"{index_type} {storage}", *_facts(views["gpu"], queries), *cells)
            del views, view, main
    return table


def _facts(view: View, queries: Vectors) -> tuple[str, str]:
    some = queries[:_RECALL_QUERIES]
    found, true = view.search(some, _K), view.exact(some, _K)
    recall = float(np.mean(found.scores >= true.scores[:, -1:] - 1e-5))
    return f"{recall:.3f}", f"{view.main.manifest.build_s:.1f}" if view.main else ""


def main() -> None:
    """Print the tables, with the device's name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    obstacle = gpu_obstacle()
    if obstacle is not None:
        sys.exit(f"there is nothing to measure: {obstacle}")
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader", "--id=0"]
    console = Console(width=200)
    console.print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    engines = {"gpu": Engine("gpu"), "cpu": Engine("cpu")}
    if engines["gpu"].backend.active != "gpu":
        sys.exit(f"the GPU is not used: {engines['gpu'].backend.reason}")
    for name in _DATA:
        console.print(measure(name, given.rows, given.rounds, engines))


if __name__ == "__main__":
    main()
