"""A service whose disk takes seconds to sync: writes wait up to a bound, reads do not wait at all."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from buffer_client import BufferClient, Experience
from buffer_client.errors import OverloadedError
from tests.helpers.storage_open import BACKENDS
from tests.helpers.tracing import injecting
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

SYNC_S = 1.5
READ_BOUND_S = SYNC_S / 2
VECTORS = unit_vectors(64, 8)
WAITING_MAX = 4
WRITERS = 12

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def append(client: BufferClient, row: int) -> int:
    """Append one experience; returns its id."""
    return int(client.append([Experience(visual=VECTORS[row], confidence=0.5)]).ids[0])


def read(client: BufferClient) -> float:
    """Read in every way; returns how long the slowest took, in seconds."""
    slowest = 0.0
    for call in (
        lambda: client.search(VECTORS[:4], k=1),
        lambda: client.sample(4),
        lambda: client.get(1),
        client.status,
    ):
        started = time.monotonic()
        call()
        slowest = max(slowest, time.monotonic() - started)
    return slowest


@pytest.mark.parametrize("backend", BACKENDS)
def test_writes_wait_for_a_slow_disk_up_to_a_bound_and_reads_do_not(backend: str, tmp_path: Path) -> None:
    """Beyond the bound 503 with Retry-After and nothing done; what waited is durable in the end."""
    settings = {"persistence__backend": backend, "server__pending_writes_max": WAITING_MAX, "rebuild__mode": "off"}
    with running_service(tmp_path / "data", **settings) as service, BufferClient(service.url, retries=0) as client:
        rows = {append(client, row): row for row in range(8)}
        with ThreadPoolExecutor(WRITERS) as threads, injecting(service.process.pid, _slow()):
            writes: dict[Future[object], str] = {threads.submit(append, client, 8): "append"}
            changes = (
                ("removal", partial(client.remove, 3)),
                ("removal", partial(client.remove, 4)),
                ("priorities", partial(client.update_priorities, [1], [0.5])),
                ("outcomes", partial(client.report_outcomes, [2], [True])),
            )
            for kind, change in changes:
                writes[threads.submit(change)] = kind
            writes |= {threads.submit(append, client, row): "append" for row in range(9, 9 + WRITERS - len(writes))}
            refused = wait_until(lambda: [item for item in writes if item.done() and item.exception()], "a refusal")
            slowest = max(read(client) for _ in range(10))
            assert sum(not item.done() for item in writes) >= len(changes)
            wait(writes)
        assert slowest < READ_BOUND_S
        errors = [item.exception() for item in refused]
        assert {type(error) for error in errors} == {OverloadedError}
        assert all(isinstance(error, OverloadedError) and error.retry_after_s for error in errors)
        taken = Counter(kind for item, kind in writes.items() if item.exception() is None)
        assert taken["append"] >= 1
        service.kill()
    with running_service(tmp_path / "data", **settings) as service, BufferClient(service.url) as client:
        assert client.status().size == len(rows) + taken["append"] - taken["removal"]
        np.testing.assert_array_equal(client.search(VECTORS[:2], k=1).ids[:, 0], [1, 2])


def _slow() -> str:
    return f"fdatasync:delay_enter={int(SYNC_S * 1e6)}"
