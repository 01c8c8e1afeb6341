"""Appends and searches without a pause until /tmp/stop exists; then asks for everything that was acknowledged.

One thread appends, one searches for the vectors of rows that were acknowledged before: each must find its own id.
Writes a line of JSON twice a second, and the result as the last line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np
import rows

from buffer_client import BufferClient, ClientError

STOP = Path("/tmp/stop")  # noqa: S108 - an emptyDir of the pod's own
_BATCH = 10
_QUERIES = 4
_SEARCH_PAUSE_S = 0.005
_EXAMPLES = 10
_PAUSE_MIN_S = 0.5
"""A longer time between two acknowledgements is told."""


class Load:
    """What the two threads share. Each list and number has one writer."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._stop = threading.Event()
        self._acknowledged: list[tuple[int, int]] = []
        self._sequence = 0
        self._acknowledged_at = 0.0
        self._pauses_s: list[float] = []
        self._failures: list[str] = []
        self._wrong: list[str] = []
        self._searches: list[float] = []
        self._generations: list[int] = []

    def client(self) -> BufferClient:
        """Return a client that repeats as often as was asked for."""
        url, token = os.environ["XBUF_URL"], os.environ["XBUF_TOKEN"]
        return BufferClient(url, token=token, retries=self._given.retries, deadline_s=60.0, timeout_s=5.0)

    def append(self) -> None:
        """Append until it is time to stop or all rows are there."""
        pause_s = _BATCH / self._given.rate
        with self.client() as client:
            for first in range(self._given.first, self._given.first + self._given.rows, _BATCH):
                if self._stop.wait(pause_s):
                    return
                try:
                    result = client.append([rows.experience_of(row) for row in range(first, first + _BATCH)])
                except ClientError as error:
                    self._failures.append(f"append: {error!r}")
                    continue
                now = time.monotonic()
                if self._acknowledged_at and now - self._acknowledged_at > _PAUSE_MIN_S:
                    self._pauses_s.append(round(now - self._acknowledged_at, 3))
                self._acknowledged_at = now
                self._acknowledged += zip(result.ids.tolist(), range(first, first + _BATCH), strict=True)
                self._sequence = result.sequence

    def search(self) -> None:
        """Search until it is time to stop."""
        with self.client() as client:
            while not self._stop.wait(_SEARCH_PAUSE_S):
                sequence, known = self._sequence, self._acknowledged
                if not sequence:
                    continue
                chosen = random.choices(known, k=_QUERIES)
                queries = np.stack([rows.vector_of(row) for _, row in chosen])
                began = time.monotonic()
                try:
                    found = client.search(queries, k=1, min_sequence=sequence)
                except ClientError as error:
                    self._failures.append(f"search: {error!r}")
                    continue
                self._searches.append(time.monotonic() - began)
                if self._generations[-1:] != [found.generation]:
                    self._generations.append(found.generation)
                for (wanted, row), nearest in zip(chosen, found.ids[:, 0].tolist(), strict=True):
                    if nearest != wanted:
                        self._wrong.append(f"row {row} is {wanted}, generation {found.generation} found {nearest}")

    def progress(self) -> dict[str, object]:
        """Return the numbers so far."""
        return {
            "acknowledged": len(self._acknowledged),
            "searches": len(self._searches),
            "switches": max(0, len(self._generations) - 1),
            "failures": len(self._failures),
            "wrong": len(self._wrong),
            "pauses_s": self._pauses_s,
        }

    def result(self) -> dict[str, object]:
        """Ask for everything that was acknowledged, and return all that is known."""
        acknowledged = dict(self._acknowledged)
        with self.client() as client:
            there = rows.stored(client)
            missing = rows.not_found(client, acknowledged)
        mine = [row for row in there.values() if row in set(acknowledged.values())]
        milliseconds = np.array(self._searches or [0.0]) * 1000
        return {
            "acknowledged": len(acknowledged),
            "lost": sorted(set(acknowledged.items()) - set(there.items()))[:_EXAMPLES],
            "not_found": missing[:_EXAMPLES],
            "doubled": len(mine) - len(set(mine)),
            "failures": self._failures[:_EXAMPLES],
            "wrong": self._wrong[:_EXAMPLES],
            "searches": len(self._searches),
            "generations": self._generations,
            "pauses_s": self._pauses_s,
            "search_p50_ms": round(float(np.percentile(milliseconds, 50)), 2),
            "search_p99_ms": round(float(np.percentile(milliseconds, 99)), 2),
            "search_max_ms": round(float(milliseconds.max()), 2),
        }

    def run(self) -> None:
        """Run both threads and say how it goes."""
        threads = [threading.Thread(target=work) for work in (self.append, self.search)]
        for thread in threads:
            thread.start()
        while not STOP.exists():
            say(self.progress())
            time.sleep(0.5)
        self._stop.set()
        for thread in threads:
            thread.join()
        say(self.result())


def say(what: dict[str, object]) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000, help="append so many at most")
    parser.add_argument("--first", type=int, default=0, help="number of the first row")
    parser.add_argument("--rate", type=float, default=150.0, help="rows to append in a second")
    parser.add_argument("--retries", type=int, default=0)
    Load(parser.parse_args()).run()


main()
