"""Recall@10 while a full buffer slides: the oldest rows leave as new ones come. Run: python -m benchmarks recall.

A service whose capacity is the window is filled and written to until each place has been taken many times; its index is
rebuilt by itself all the while, with default settings. Ten times in each turnover queries are searched over HTTP and
compared with an exact search among the rows that are live at that moment. What counts is the lowest of these recalls.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.datasets import Vectors
from benchmarks.processes import Server, service
from benchmarks.search_data import DATA, RECALL_FLOOR, K
from buffer_client import BufferClient, Experience

_ROWS_PER_REQUEST = 500
_CHECKS_PER_TURNOVER = 10
_QUERIES = 200
_TOLERANCE = 1e-5

console = Console()


class Window:
    """The rows of a service, oldest first; row n was appended n-th and is experience n + 1."""

    def __init__(self, client: BufferClient, data: str, size: int) -> None:
        self._client = client
        self._data = data
        self._size = size
        self._live = np.zeros((0, 0), np.float32)
        self._appended = 0
        self._queries = DATA[data](_QUERIES, 2)

    def slide(self, rows: Vectors) -> None:
        """Append rows, by which as many leave a full window; raises AssertionError when ids are not as expected."""
        for start in range(0, len(rows), _ROWS_PER_REQUEST):
            some = rows[start : start + _ROWS_PER_REQUEST]
            ids = self._client.append([Experience(visual=row, confidence=0.5) for row in some]).ids
            self._appended += len(some)
            if int(ids[-1]) != self._appended:
                raise AssertionError(f"row {self._appended} became experience {ids[-1]}")
        self._live = np.concatenate([self._live, rows])[-self._size :] if self._live.size else rows[-self._size :]

    def recall(self) -> float:
        """Search all queries and compare with an exact search; an id that has left counts as not found."""
        found = self._client.search(vectors=self._queries, k=K).ids
        scores = self._queries @ self._live.T
        least = np.partition(scores, -K, axis=1)[:, -K] - np.float32(_TOLERANCE)
        places = found - (self._appended - len(self._live)) - 1
        there = (places >= 0) & (places < len(self._live))
        given = np.take_along_axis(scores, np.where(there, places, 0), axis=1)
        return float(np.mean(there & (given >= least[:, None])))


def turnovers(server: Server, given: argparse.Namespace) -> list[tuple[list[float], int, int]]:
    """Fill the window, then replace it again and again; returns recalls, generation and delta rows of each turnover."""
    taken = []
    with BufferClient(server.url, timeout_s=60, deadline_s=600, retries=1000) as client:
        window = Window(client, given.data, given.window)
        window.slide(DATA[given.data](given.window, 10))
        step = given.window // _CHECKS_PER_TURNOVER
        for turnover in range(given.turnovers):
            rows = DATA[given.data](given.window, 11 + turnover)
            recalls = []
            for start in range(0, step * _CHECKS_PER_TURNOVER, step):
                window.slide(rows[start : start + step])
                recalls.append(window.recall())
            status = client.status()
            taken.append((recalls, status.generation, status.delta_rows))
            console.print(f"turnover {turnover + 1}: recall {min(recalls):.4f} at least", style="dim")
    return taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=20_000)
    parser.add_argument("--turnovers", type=int, default=10)
    parser.add_argument("--data", choices=sorted(DATA), default="clustered")
    parser.add_argument("--type", choices=("auto", "flat", "ivf", "hnsw"), default="ivf")
    given = parser.parse_args()
    settings = {"XBUF_BUFFER__CAPACITY": str(given.window), "XBUF_INDEX__TYPE": given.type}
    with tempfile.TemporaryDirectory(prefix="xbuf-bench-") as name, service(Path(name), "file", settings) as server:
        taken = turnovers(server, given)
    title = f"recall@10 of {_QUERIES} queries, window of {given.window:,}, {given.data} data, index {given.type}"
    table = Table("turnover", "lowest", "median", "generation", "rows in the delta", title=title)
    for number, (recalls, generation, delta_rows) in enumerate(taken, start=1):
        cells = f"{min(recalls):.4f}", f"{statistics.median(recalls):.4f}", str(generation), f"{delta_rows:,}"
        table.add_row(str(number), *cells)
    console.print(table)
    every = [recall for recalls, _, _ in taken for recall in recalls]
    verdict = "met" if min(every) >= RECALL_FLOOR else "MISSED"
    console.print(f"lowest {min(every):.4f} of {RECALL_FLOOR} {verdict}; median {statistics.median(every):.4f}")


if __name__ == "__main__":
    main()
