"""A running service whose disk fails or turns read-only, that has no descriptors left, or whose log nobody takes."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from buffer_client import BufferClient, Experience
from buffer_client.errors import ClientError, OutcomeUnknownError
from tests.helpers.load import load_on
from tests.helpers.mounting import ext4_disk
from tests.helpers.storage_open import BACKENDS
from tests.helpers.tracing import injecting
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

VECTORS = unit_vectors(200, 8)

both = pytest.mark.parametrize("backend", BACKENDS)
traced = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def append(client: BufferClient, row: int) -> int:
    """Append one experience; returns its id."""
    return int(client.append([Experience(visual=VECTORS[row], confidence=0.5)]).ids[0])


def check_reads(client: BufferClient, count: int) -> None:
    """The first ``count`` rows are there and found, in every way of reading."""
    assert [item.id for item in client.experiences()] == list(range(1, count + 1))
    np.testing.assert_array_equal(client.search(VECTORS[:count], k=1).ids[:, 0], np.arange(1, count + 1))
    assert len(client.sample(16).ids) == 16
    assert client.get(count).id == count


def check_latched(url: str, client: BufferClient, count: int) -> None:
    """No write is taken, the probe of life says why, reads go on."""
    with pytest.raises(OutcomeUnknownError, match="restart"):
        append(client, count)
    with pytest.raises(OutcomeUnknownError, match="restart"):
        client.update_priorities([1], [0.5])
    assert not client.status().store.writable
    assert httpx.get(f"{url}/livez").status_code == httpx.codes.SERVICE_UNAVAILABLE
    check_reads(client, count)


@both
@traced
def test_a_failed_sync_stops_writes_until_the_restart_and_reads_go_on(backend: str, tmp_path: Path) -> None:
    """One failed sync is enough, though all later ones would succeed; the restart has what was acknowledged."""
    settings = {"persistence__backend": backend}
    with running_service(tmp_path / "data", **settings) as service, BufferClient(service.url, retries=0) as client:
        for row in range(20):
            append(client, row)
        with injecting(service.process.pid, "fdatasync:error=EIO:when=1"), pytest.raises(OutcomeUnknownError):
            append(client, 20)
        check_latched(service.url, client, 20)
    with running_service(tmp_path / "data", **settings) as service, BufferClient(service.url) as client:
        found = client.status().size
        assert found in (20, 21)
        assert append(client, found) == found + 1
        check_reads(client, found + 1)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mkfs.ext4") is None, reason="needs root and mkfs.ext4")
@both
def test_a_disk_that_turned_read_only_stops_writes_and_reads_go_on(backend: str, tmp_path: Path) -> None:
    """As the kernel does it after an error of the file system; nothing acknowledged is missing afterwards."""
    settings = {"persistence__backend": backend, "rebuild__mode": "off"}
    image = tmp_path / "image"
    with ext4_disk(tmp_path / "disk", image) as disk:
        error_trigger = ext4_error_trigger(disk)
        with running_service(disk / "data", **settings) as service, BufferClient(service.url, retries=0) as client:
            for row in range(20):
                append(client, row)
            error_trigger.write_text("1")
            with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
                (disk / "new").touch()
            with pytest.raises(OutcomeUnknownError):
                append(client, 20)
            check_latched(service.url, client, 20)
    with (
        ext4_disk(tmp_path / "disk", image) as disk,
        running_service(disk / "data", **settings) as service,
        BufferClient(service.url) as client,
    ):
        found = client.status().size
        assert found in (20, 21)
        check_reads(client, found)


def ext4_error_trigger(disk: Path) -> Path:
    """Return the file by which the kernel is made to see an error; the disk is made to turn read-only then."""
    subprocess.run(["mount", "-o", "remount,errors=remount-ro", disk], check=True)
    device = disk.stat().st_dev
    name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    return Path(f"/sys/fs/ext4/{name}/trigger_fs_error")


@both
def test_without_descriptors_new_connections_wait_and_nothing_is_harmed(backend: str, tmp_path: Path) -> None:
    """Whoever is connected is served, writes included; whoever is not is served once there are descriptors."""
    settings = {"persistence__backend": backend, "rebuild__mode": "off"}
    with running_service(tmp_path / "data", **settings) as service, BufferClient(service.url, retries=0) as client:
        for row in range(10):
            append(client, row)
        check_reads(client, 10)
        with no_more_descriptors(service.process.pid):
            with BufferClient(service.url, retries=0, timeout_s=1.0) as late, pytest.raises(ClientError):
                late.status()
            for row in range(10, 20):
                append(client, row)
            check_reads(client, 20)
        with BufferClient(service.url, retries=0) as late:
            wait_until(lambda: is_answered(late), "a new connection is taken")
            check_reads(late, 20)
            assert append(late, 20) == 21
            assert late.status().store.writable


def is_answered(client: BufferClient) -> bool:
    """Tell whether the service answers."""
    try:
        client.status()
    except ClientError:
        return False
    return True


@contextmanager
def no_more_descriptors(pid: int) -> Iterator[None]:
    """Let the process open nothing more meanwhile."""
    highest = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
    limits = resource.prlimit(
        pid, resource.RLIMIT_NOFILE, (highest + 1, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1])
    )
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("sink", ["full", "unread"])
def test_a_log_that_nobody_takes_holds_up_nothing(sink: str, tmp_path: Path) -> None:
    """Standard output and error are a full device, or a pipe that is full: appends and switches go on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    reading, writing = os.pipe() if sink == "unread" else (-1, os.open("/dev/full", os.O_WRONLY))
    if sink == "unread":
        os.set_blocking(writing, False)
        _fill(writing)
        os.set_blocking(writing, True)
    command = [
        sys.executable,
        "-m",
        "buffer_service.cli",
        "serve",
        "--data",
        str(tmp_path / "data"),
        "--port",
        str(port),
    ]
    settings = {"XBUF_EMBEDDING__DIMENSION": "8", "XBUF_REBUILD__EVERY_OPERATIONS": "100"}
    with subprocess.Popen(command, stdout=writing, stderr=writing, env=os.environ | settings) as process:
        try:
            os.close(writing)
            url = f"http://127.0.0.1:{port}"
            with BufferClient(url, retries=0) as client:
                wait_until(lambda: is_answered(client), "the service answers")
                with load_on(url) as load:
                    wait_until(lambda: client.status().generation > 1, "two switches, each of which is logged")
                assert load.errors == []
                load.check(client)
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
            if reading >= 0:
                os.close(reading)


def _fill(pipe: int) -> None:
    size = 1 << 16
    while size:
        try:
            os.write(pipe, bytes(size))
        except BlockingIOError:
            size //= 2
