"""A rebuild on the serving machine ends with the service, however that ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from buffer_client import BufferClient, Experience
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service


def _rebuild_of(service: int) -> int | None:
    """Return the process that rebuilds for this service, if there is one."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"rebuild" in words and str(service).encode() in words:
            return int(folder.name)
    return None


def test_a_killed_service_leaves_no_rebuild_behind(tmp_path: Path) -> None:
    """A rebuild that was held while its service was killed ends when it goes on, and publishes nothing."""
    with running_service(tmp_path / "data", rebuild__every_operations=20, rebuild__min_interval_s=0) as service:
        with BufferClient(service.url) as client:
            client.append([Experience(visual=row, confidence=0.5) for row in unit_vectors(20, 8)])
        rebuild = wait_until(lambda: _rebuild_of(service.process.pid), "a rebuild", interval_s=0.001)
        os.kill(rebuild, signal.SIGSTOP)
        service.kill()
        os.kill(rebuild, signal.SIGCONT)
        wait_until(lambda: not Path(f"/proc/{rebuild}").exists(), "the rebuild's end")
        assert not list((tmp_path / "data" / "indexes").glob("gen-*"))
