"""Many client processes at once, started by spawn, as trainers and inference pods are."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np

from buffer_client import BufferClient, Experience
from tests.helpers.vectors import unit_vectors
from tests.integration.running import running_service

PROCESSES = 4
ROUNDS = 25


def _work(url: str, worker: int) -> None:
    """Write, search for it at once, sample, move priorities, report outcomes; any surprise ends with an exception."""
    vectors = unit_vectors(ROUNDS * 2, 8, seed=worker)
    with BufferClient(url) as client:
        for place in range(ROUNDS):
            rows = vectors[2 * place : 2 * place + 2]
            ids = list(client.append([Experience(visual=row, confidence=0.4, reward=1.0) for row in rows]).ids)
            found = client.search(vectors=rows, k=1)
            if found.ids[:, 0].tolist() != ids:
                raise AssertionError(f"worker {worker} wrote {ids} and found {found.ids.tolist()}")
            batch = client.sample(4)
            if not np.isfinite(batch.weights).all():
                raise AssertionError(f"weights {batch.weights}")
            client.update_priorities(ids, [0.5, 0.6])
            if [str(status) for status in client.report_outcomes(ids, [True, False])] != ["applied", "applied"]:
                raise AssertionError("an outcome of a live experience was not applied")


def test_processes_write_and_read_at_once(tmp_path: Path) -> None:
    """Read-your-writes holds for each, and nothing is lost or doubled between them."""
    with running_service(tmp_path / "data", rebuild__every_operations=60) as service:
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=_work, args=(service.url, worker)) for worker in range(PROCESSES)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        with BufferClient(service.url) as client:
            everything = list(client.experiences())

    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert len(everything) == PROCESSES * ROUNDS * 2
    assert sum(item.success_count for item in everything) == PROCESSES * ROUNDS
