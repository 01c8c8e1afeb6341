"""What it takes to compare a row by its code, and to rank one exactly: the numbers by which ``auto`` chooses codes.

In process, one thread, batches of 16 over the same inverted lists; the codes take turns within each round, because
machines drift. A row is what more lists take, divided by the rows in them. Run: python -m benchmarks codes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.datasets import Vectors, unclustered
from benchmarks.rounds import Rounds, spread
from benchmarks.workload import DIMENSION
from buffer_service.index.coarse import search_lists
from buffer_service.index.codes import Shape, cost_ns, packed, untrained
from buffer_service.index.metric import scores_at
from buffer_service.index.openmp import use_threads

CODES = ("fp32", "fp16", "sq8", "pq4")
_LISTS = 512
_FEW, _MANY = 32, 256
_FOUND = 100
_BATCH = 16
_TRAINING_ROWS = 30_000
_SECONDS = 0.3


def filled(rows: Vectors, centroids: Any, code: str) -> Any:  # noqa: ANN401 - FAISS has no types
    """Return the rows in the lists of these centroids, coded so."""
    index = untrained(Shape(DIMENSION, _LISTS, "cosine"), code, faiss.clone_index(centroids))
    index.train(rows[:_TRAINING_ROWS])
    index.add(rows)
    return packed(index)


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes, from as many as fit."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        call()
        done += 1
    return (time.perf_counter() - began) / done


def row_ns(index: Any, centroids: Any, queries: Vectors) -> float:  # noqa: ANN401
    """Return the nanoseconds that one more row takes."""
    taken = []
    for probes in (_FEW, _MANY):
        lists = np.ascontiguousarray(centroids.search(queries, probes)[1])
        sizes = np.array([index.invlists.list_size(number) for number in range(index.nlist)])
        rows = int(sizes[lists].sum())
        taken.append((seconds(lambda lists=lists: search_lists(index, queries, _FOUND, lists)), rows))  # type: ignore[misc]
    (few_s, few), (many_s, many) = taken
    return 1e9 * (many_s - few_s) / (many - few)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    use_threads(1)
    rows, queries = unclustered(given.rows, 0), unclustered(_BATCH, 2)
    centroids = faiss.IndexFlatIP(DIMENSION)
    centroids.add(rows[np.random.default_rng(0).choice(len(rows), _LISTS, replace=False)])
    indexes = {code: filled(rows, centroids, code) for code in CODES}
    candidates = np.random.default_rng(1).integers(len(rows), size=(_BATCH, _FOUND))
    rounds = Rounds()
    for _ in range(given.rounds):
        taken = rounds.begin()
        for code, index in indexes.items():
            taken[code] = row_ns(index, centroids, queries)
        taken["exact"] = 1e9 * seconds(lambda: scores_at("cosine", queries, rows, candidates)) / candidates.size
    table = Table("", "ns", "times a row of sq8", "in the choice", title=f"One row of {DIMENSION} dimensions")
    for code in (*CODES, "exact"):
        counted = (0, 1) if code == "exact" else (1, 0)
        chosen = cost_ns("sq8" if code == "exact" else code, DIMENSION, *counted) / cost_ns("sq8", DIMENSION, 1, 0)
        ratio = spread(rounds.values(lambda taken, code=code: taken[code] / taken["sq8"]), ".2f")  # type: ignore[misc]
        name = "ranked by its exact vector" if code == "exact" else f"compared as {code}"
        table.add_row(name, rounds.cell(code, ".1f"), ratio, f"{chosen:.2f}")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
