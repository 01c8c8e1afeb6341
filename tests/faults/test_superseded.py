"""A service that was paused while another one took over its store: what a volume that moved to another node allows."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from buffer_client import BufferClient, ClientError, Experience, OutcomeUnknownError
from buffer_service.storage.lock import LOCK_FILE
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import RunningService, running_service

VECTORS = unit_vectors(64, 8)


class _Writer(threading.Thread):
    """Appends one after the other until one fails; keeps what was acknowledged."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__()
        self._url = url
        self._label = name
        self.acknowledged: dict[int, str] = {}
        self.error: ClientError | None = None

    def run(self) -> None:
        with BufferClient(self._url, retries=0, timeout_s=60) as client:
            while self.error is None:
                row = f"{self._label}-{len(self.acknowledged)}"
                experience = Experience(
                    visual=VECTORS[len(self.acknowledged) % 64], confidence=0.5, metadata={"row": row}
                )
                try:
                    self.acknowledged[int(client.append([experience]).ids[0])] = row
                except ClientError as error:
                    self.error = error


def _take_over(folder: Path) -> None:
    """Make the writer lock as if it were on another machine, where it does not reach."""
    (folder / "store" / LOCK_FILE).unlink()


@contextmanager
def _paused(service: RunningService) -> Iterator[Callable[[], None]]:
    """Stop the process; yields what lets it go on, which happens in the end anyway."""

    def resume() -> None:
        os.kill(service.process.pid, signal.SIGCONT)

    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        yield resume
    finally:
        resume()


def _late(count: int) -> list[Experience]:
    return [Experience(visual=row, confidence=0.5, metadata={"row": "late"}) for row in VECTORS[:count]]


def _rows(client: BufferClient) -> dict[int, str]:
    return {item.id: (item.metadata or {})["row"] for item in client.experiences()}


def test_a_service_paused_amid_writes_and_superseded_acknowledges_nothing_more(tmp_path: Path) -> None:
    """On waking it refuses them for good, fails its probe, and harms nothing of the other's.

    Under LMDB a process that is paused amid a commit holds LMDB's lock: the other one waits until it is ended.
    """
    folder = tmp_path / "data"
    with running_service(folder, rebuild__mode="off") as first:
        early = _Writer(first.url, "early")
        early.start()
        wait_until(lambda: len(early.acknowledged) > 50, "50 acknowledged")
        with _paused(first) as resume:
            _take_over(folder)
            with running_service(folder, rebuild__mode="off") as second, BufferClient(second.url) as client:
                seen = {item.id for item in client.experiences()}
                client.append(_late(5))
                resume()
                early.join()
                assert isinstance(early.error, OutcomeUnknownError)
                assert "taken over this store" in str(early.error)
                client.append(_late(1))
                before = _rows(client)
    assert set(early.acknowledged) <= seen
    with running_service(folder, rebuild__mode="off") as third, BufferClient(third.url) as client:
        found = _rows(client)
    assert found == before
    assert {id_: found[id_] for id_ in early.acknowledged} == early.acknowledged


@pytest.mark.parametrize("backend", ["file", "lmdb"])
def test_a_service_that_was_superseded_takes_no_write_and_fails_its_probe(tmp_path: Path, backend: str) -> None:
    """Whatever runs it ends it then; what the other service has written is whole."""
    folder = tmp_path / "data"
    settings = {"persistence__backend": backend, "rebuild__mode": "off"}
    with running_service(folder, **settings) as first, BufferClient(first.url, retries=0) as old:
        known = set(old.append(_late(3)).ids)
        with _paused(first) as resume:
            _take_over(folder)
            with running_service(folder, **settings) as second, BufferClient(second.url) as new:
                known |= set(new.append(_late(3)).ids)
                resume()
                with pytest.raises(OutcomeUnknownError, match="taken over this store"):
                    old.append(_late(1))
                assert httpx.get(f"{first.url}/livez").status_code == 503
                assert set(_rows(new)) == known
    with running_service(folder, **settings) as third, BufferClient(third.url) as client:
        assert set(_rows(client)) == known


@pytest.mark.parametrize("backend", ["file", "lmdb"])
def test_an_idle_service_that_was_superseded_fails_its_probe(tmp_path: Path, backend: str) -> None:
    """So that whatever runs it ends it, though no write ever came."""
    folder = tmp_path / "data"
    settings = {"persistence__backend": backend, "rebuild__mode": "off"}
    with running_service(folder, **settings) as first:
        _take_over(folder)
        with running_service(folder, **settings):
            wait_until(lambda: httpx.get(f"{first.url}/livez").status_code == 503, "the probe to fail")
        assert "taken over" in httpx.get(f"{first.url}/livez").text
