"""Everything at once, from many processes, while the service is killed again and again; then the histories are checked.

Each client process records what it asked, when, and what it was told; afterwards ``tests/helpers/history_checks.py``
looks for what no order of these operations explains. XBUF_TEST_KILLS sets how often each service is killed.
"""

from __future__ import annotations

import os
import random
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from buffer_client import BufferClient
from tests.helpers.history import History, Outcome, Page, read_histories
from tests.helpers.history_checks import check, same_state
from tests.helpers.history_clients import CONTEXT, Shared, work
from tests.helpers.history_facts import Setup
from tests.helpers.history_recorder import INITIAL_PRIORITY, Recorder
from tests.helpers.history_rules import summary
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

KILLS = int(os.environ.get("XBUF_TEST_KILLS", "3"))
SEED = int(os.environ.get("XBUF_TEST_SEED", "0"))
PROCESSES = 8
SMALL = 300
OPERATIONS_BETWEEN_KILLS = (400, 1500)
"""Least and most that are answered before the next kill."""


def _port() -> int:
    """Return a free port that the system lends to nobody: with one of those a client can connect to itself."""
    for _ in range(100):
        port = random.randint(20_000, 30_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@contextmanager
def _clients(url: str, folder: Path) -> Iterator[Shared]:
    """Run the client processes, and stop them at the end; each must end well."""
    shared = Shared.of(PROCESSES)
    clients = [
        CONTEXT.Process(target=work, args=(url, process, SEED, folder / f"{process}.jsonl", shared))
        for process in range(PROCESSES)
    ]
    for client in clients:
        client.start()
    try:
        yield shared
    finally:
        shared.stop.set()
        for client in clients:
            client.join(30)
            client.kill()
            client.join()
    assert [client.exitcode for client in clients] == [0] * PROCESSES


def _read_back(url: str, history: History, file: Path) -> Page:
    """Read everything, search for each row by its vector, and record both."""
    with file.open("wb") as lines, BufferClient(url) as client:
        recorder = Recorder(client, PROCESSES, lines)
        everything = recorder.everything()
        keys = [row.key for row in everything.rows]
        for start in range(0, len(keys), 1000):
            recorder.search(keys[start : start + 1000], min_sequence=0)
    history += read_histories([file])
    return everything


def _run(folder: Path, settings: dict[str, Any]) -> tuple[History, Page, Page, int]:
    """Write, read and kill; return the history, the state after the last kill and after one more start."""
    port = _port()
    url = f"http://127.0.0.1:{port}"
    dice = random.Random(SEED)
    data = folder / "data"
    with _clients(url, folder) as shared:
        for kill in range(KILLS):
            with running_service(data, port, **settings) as service, BufferClient(url) as client:
                wanted = sum(shared.done) + dice.randint(*OPERATIONS_BETWEEN_KILLS)
                wait_until(lambda: sum(shared.done) >= wanted, f"{wanted} operations", 60.0)  # noqa: B023
                if kill == 1:
                    wait_until(lambda: client.status().generation > 0, "a rebuild", 60.0)
                service.kill()
    history = read_histories(sorted(folder.glob("*.jsonl")))
    with running_service(data, port, **settings), BufferClient(url) as client:
        generation = client.status().generation
        after_kill = _read_back(url, history, folder / "after-kill")
    with running_service(data, port, **settings):
        after_restart = _read_back(url, history, folder / "after-restart")
    return history, after_kill, after_restart, generation


@pytest.mark.timeout(120 + 60 * KILLS)
@pytest.mark.parametrize("capacity", [100_000, SMALL])
@pytest.mark.parametrize("backend", ["file", "lmdb"])
def test_no_history_contradicts_the_promises(tmp_path: Path, backend: str, capacity: int) -> None:
    """Over kill -9, restarts, rebuilds, switches, retries and evictions, with eight processes at once."""
    settings: dict[str, Any] = {
        "persistence__backend": backend,
        "buffer__capacity": capacity,
        "rebuild__every_operations": 50,
        "rebuild__min_interval_s": 0.2,
    }
    history, after_kill, after_restart, generation = _run(tmp_path, settings)

    violations = [*check(history, Setup(capacity, INITIAL_PRIORITY)), *same_state(after_kill, after_restart)]
    assert not violations, summary(violations)

    assert generation > 0, "the switch was forgotten"
    assert (after_kill.rows[-1].id > capacity) == (capacity == SMALL), "the small one must evict"
    counts = Counter((type(item).__name__, item.outcome) for item in history)
    print(backend, capacity, f"generation {generation},", len(history), "records:", dict(counts))  # noqa: T201
    assert counts["Append", Outcome.UNKNOWN], "no kill met a write on its way"
