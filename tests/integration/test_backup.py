"""xbuf backup, restore and repair on a real service: a prefix of what was acknowledged, while writing goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest

from buffer_client import BufferClient, Experience
from buffer_service.contract.generation import INDEX_FILE, generation_name
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

VECTORS = unit_vectors(500, 8)


class _Appender(threading.Thread):
    """Appends one after the other until it is told to stop; keeps the sequence of each that was acknowledged."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.stop = threading.Event()
        self.acknowledged: dict[int, int] = {}

    def run(self) -> None:
        with BufferClient(self._url) as client:
            while not self.stop.is_set():
                row = len(self.acknowledged)
                experience = Experience(visual=VECTORS[row % len(VECTORS)], confidence=0.5, metadata={"row": row})
                done = client.append([experience])
                self.acknowledged[done.ids[0]] = done.sequence


def _xbuf(*arguments: object, scope: str = "none") -> tuple[int, str]:
    command = [sys.executable, "-m", "buffer_service.cli", *map(str, arguments)]
    environment = os.environ | {"XBUF_TOKEN": f"{scope}-token"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    return done.returncode, done.stdout + done.stderr


def _sequence_in(output: str) -> int:
    return int(output.split("sequence ")[1].split(",", maxsplit=1)[0])


@pytest.mark.parametrize("backend", ["file", "lmdb"])
def test_a_backup_under_writes_restores_a_prefix_of_what_was_acknowledged(tmp_path: Path, backend: str) -> None:
    """Whole, at the sequence that was said, found by search; the restored buffer takes writes and builds its index."""
    backup, restored = tmp_path / "buffer.tar", tmp_path / "restored"
    settings = {"persistence__backend": backend, "rebuild__every_operations": 100}
    with running_service(tmp_path / "data", **settings) as service:
        appender = _Appender(service.url)
        appender.start()
        wait_until(lambda: len(appender.acknowledged) > 150, "150 acknowledged")
        known = dict(appender.acknowledged)
        code, output = _xbuf("backup", "--url", service.url, backup)
        count = len(appender.acknowledged)
        wait_until(lambda: len(appender.acknowledged) > count, "writing goes on")
        appender.stop.set()
        appender.join()
    assert code == 0, output
    sequence = _sequence_in(output)
    assert _xbuf("verify", backup) == (0, f"{backup}: sound\n")
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(backup.read_bytes()[:-2000])
    code, verdict = _xbuf("verify", damaged)
    assert (code, "cut off or damaged" in verdict) == (65, True)

    code, output = _xbuf("restore", backup, "--data", restored)
    expected = {experience for experience, at in appender.acknowledged.items() if at <= sequence}
    assert set(known) <= expected
    assert (code, output) == (0, f"{restored}: sequence {sequence}, {len(expected)} experiences\n")

    with running_service(restored, **settings) as service, BufferClient(service.url) as client:
        found = {item.id: item for item in client.experiences()}
        assert set(found) == expected
        nearest = client.search(VECTORS[:100], k=1)
        np.testing.assert_allclose(nearest.scores[:, 0], 1.0, atol=1e-5)
        added = client.append([Experience(visual=VECTORS[0], confidence=0.5)])
        assert added.sequence > sequence
        wait_until(lambda: client.status().generation == 1, "the first generation of the restored buffer")


def test_an_earlier_sequence_is_restored(tmp_path: Path) -> None:
    """As it was before a removal that nobody wanted."""
    backup = tmp_path / "buffer.tar"
    with running_service(tmp_path / "data") as service, BufferClient(service.url) as client:
        done = client.append([Experience(visual=row, confidence=0.5) for row in VECTORS[:20]])
        client.remove(done.ids[3])
        code, output = _xbuf("backup", "--url", service.url, backup)
        assert code == 0, output

    code, output = _xbuf("restore", backup, "--data", tmp_path / "before", "--sequence", done.sequence)
    assert (code, output) == (0, f"{tmp_path / 'before'}: sequence {done.sequence}, 20 experiences\n")
    with running_service(tmp_path / "before") as service, BufferClient(service.url) as client:
        assert client.get(done.ids[3]).id == done.ids[3]

    code, output = _xbuf("restore", backup, "--data", tmp_path / "before")
    assert (code, "not empty" in output) == (65, True)
    code, output = _xbuf("restore", backup, "--data", tmp_path / "never", "--sequence", 10_000)
    assert (code, "goes from 0 to" in output, (tmp_path / "never").exists()) == (65, True, False)


def test_a_backup_needs_the_scope_admin(tmp_path: Path) -> None:
    """A refused or unanswered backup leaves no file, not even an unfinished one."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    for scope in ("read", "write", "admin"):
        (tokens / scope).write_text(f"{scope}-token")
    target = tmp_path / "backups" / "buffer.tar"
    target.parent.mkdir()
    with running_service(tmp_path / "data", auth__tokens_dir=tokens) as service:
        code, output = _xbuf("backup", "--url", service.url, target, scope="write")
        assert (code, "403" in output, list(target.parent.iterdir())) == (2, True, [])
        code, output = _xbuf("backup", "--url", service.url, target, scope="admin")
        assert (code, list(target.parent.iterdir())) == (0, [target]), output
        url = service.url
    code, _ = _xbuf("backup", "--url", url, target.with_name("second.tar"), scope="admin")
    assert (code, list(target.parent.iterdir())) == (75, [target])


def _fill(client: BufferClient) -> None:
    """Append more than sockets and pipes hold."""
    for _ in range(8):
        payload = {"filler": os.urandom(300_000).hex()}
        client.append([Experience(visual=row, confidence=0.5, metadata=payload) for row in VECTORS[:4]])


def test_a_stream_that_ends_too_early_is_no_backup(tmp_path: Path) -> None:
    """The service is killed while it is copied: the exit code says so, also on standard output."""
    with running_service(tmp_path / "data") as service, BufferClient(service.url) as client:
        _fill(client)
        command = [sys.executable, "-m", "buffer_service.cli", "backup", "--url", service.url, "-"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as backup:
            assert backup.stdout is not None
            assert backup.stdout.read(1)
            service.kill()
            _, errors = backup.communicate(timeout=60)
    assert (backup.returncode, b"xbuf backup" in errors) == (75, True), errors


def test_a_stream_that_is_given_up_frees_the_place_for_the_next(tmp_path: Path) -> None:
    """One backup at a time; whoever goes away is not waited for."""
    with running_service(tmp_path / "data") as service, BufferClient(service.url) as client:
        _fill(client)
        with httpx.stream("POST", f"{service.url}/v1/admin/backup") as first:
            assert int(first.headers["x-sequence"]) == client.status().sequence
            second = httpx.post(f"{service.url}/v1/admin/backup")
            assert (second.status_code, second.json()["code"]) == (503, "overloaded")

        def again() -> bool:
            with httpx.stream("POST", f"{service.url}/v1/admin/backup") as answer:
                return answer.status_code == httpx.codes.OK

        assert wait_until(again, "the next backup")


def test_a_repaired_buffer_builds_anew_what_was_damaged(tmp_path: Path) -> None:
    """In use: 69. A damaged generation: removed, 0, and another one is built. A damaged store: 65."""
    folder = tmp_path / "data"
    settings = {"rebuild__every_operations": 50, "rebuild__min_interval_s": 0.1}
    with running_service(folder, **settings) as service, BufferClient(service.url) as client:
        client.append([Experience(visual=row, confidence=0.5) for row in VECTORS[:60]])
        wait_until(lambda: client.status().generation == 1, "the first generation")
        code, output = _xbuf("repair", folder)
        assert (code, "in use" in output) == (69, True)

    index = folder / "indexes" / generation_name(1) / INDEX_FILE
    index.write_bytes(index.read_bytes()[:-1] + b"?")
    code, output = _xbuf("repair", folder)
    assert (code, generation_name(1) in output, index.parent.exists()) == (0, True, False)
    assert _xbuf("verify", folder) == (0, f"{folder}: sound\n")
    with running_service(folder, **settings) as service, BufferClient(service.url) as client:
        np.testing.assert_allclose(client.search(VECTORS[:60], k=1).scores[:, 0], 1.0, atol=1e-5)
        wait_until(lambda: client.status().generation > 0, "a generation in its place")

    segment = next((folder / "store").glob("segment-*.log"))
    data = bytearray(segment.read_bytes())
    data[200] ^= 0xFF
    segment.write_bytes(data)
    code, output = _xbuf("repair", folder)
    assert (code, "restore the newest backup" in output) == (65, True)
