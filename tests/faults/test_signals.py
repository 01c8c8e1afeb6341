"""A service under load that is paused, asked to stop, killed for its memory, or started twice as process 1."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from buffer_client import BufferClient
from buffer_client.errors import ClientError
from tests.helpers.limits import memory_limit
from tests.helpers.load import Load, load_on
from tests.helpers.storage_open import BACKENDS
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

ROUNDS = int(os.environ.get("XBUF_TEST_SIGNALS", "1"))
"""How often each is done to one buffer; ``make faults`` asks for more."""
GRACE_S = 15.0

both = pytest.mark.parametrize("backend", BACKENDS)


def wait_for_appends(load: Load, more: int = 100) -> None:
    """Wait until so many more are acknowledged."""
    target = len(load.acknowledged) + more
    wait_until(lambda: len(load.acknowledged) >= target, f"{more} appends more")


@both
def test_a_pause_costs_nothing_but_time(backend: str, tmp_path: Path) -> None:
    """Stopped in the midst of its load, it does not answer; when it goes on, every request that waited is answered."""
    with (
        running_service(tmp_path / "data", persistence__backend=backend) as service,
        BufferClient(service.url, timeout_s=0.5, retries=0) as client,
    ):
        with load_on(service.url) as load:
            for _ in range(ROUNDS):
                wait_for_appends(load)
                service.process.send_signal(signal.SIGSTOP)
                try:
                    with pytest.raises(ClientError, match=r"no answer|timed out"):
                        client.status()
                finally:
                    service.process.send_signal(signal.SIGCONT)
                wait_for_appends(load)
        assert load.errors == []
        with BufferClient(service.url) as patient:
            load.check(patient)


@both
def test_a_request_to_stop_finishes_what_was_taken_and_loses_nothing(backend: str, tmp_path: Path) -> None:
    """Exit code 0 within the grace; who was not answered was cut off or refused, and the next start has the rest."""
    settings = {"persistence__backend": backend, "rebuild__every_operations": 200}
    for round_number in range(ROUNDS):
        folder = tmp_path / str(round_number)
        with running_service(folder, **settings) as service, load_on(service.url) as load:
            wait_for_appends(load, 100 + 150 * round_number)
            service.process.terminate()
            assert service.process.wait(GRACE_S) == 0
        with running_service(folder, **settings) as service, BufferClient(service.url) as client:
            load.check(client)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to limit the memory of a process")
@both
def test_a_kill_for_memory_loses_nothing_acknowledged(backend: str, tmp_path: Path) -> None:
    """The kernel kills it where the limit is met, whatever it is doing then."""
    dimension = 4096
    settings = {"persistence__backend": backend, "embedding__dimension": dimension, "rebuild__mode": "off"}
    with running_service(tmp_path / "data", **settings) as service:
        with (
            memory_limit(service.process.pid, 12 << 20),
            load_on(service.url, dimension=dimension) as load,
        ):
            assert wait_until(service.process.poll, "the kill") == -signal.SIGKILL
        assert load.acknowledged
    with running_service(tmp_path / "data", **settings) as service, BufferClient(service.url) as client:
        load.check(client)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a PID namespace")
@both
def test_a_second_service_that_is_process_1_as_well_is_refused(backend: str, tmp_path: Path) -> None:
    """As two containers on one volume would be; the first goes on, and its place is free when it is gone."""
    container = ("unshare", "--pid", "--fork", "--kill-child")
    settings = {"persistence__backend": backend}
    with running_service(tmp_path / "data", prefix=container, **settings) as first:
        with load_on(first.url) as load:
            wait_for_appends(load)
            with (
                pytest.raises(AssertionError, match="is in use by process 1 on "),
                running_service(tmp_path / "data", prefix=container, **settings),
            ):
                pass
            wait_for_appends(load)
        assert load.errors == []
        first.kill()
    with (
        running_service(tmp_path / "data", prefix=container, **settings) as service,
        BufferClient(service.url) as client,
    ):
        load.check(client)
        assert np.isfinite(client.sample(8).weights).all()
        service.kill()
