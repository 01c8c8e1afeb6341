"""System calls that are interrupted, do half of their work or find no descriptor, and kills during recovery."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tests.helpers.storage_invariants import check_recovered
from tests.helpers.storage_killed import ACKNOWLEDGED, UNKNOWN
from tests.helpers.storage_open import BACKENDS, fill, opened
from tests.helpers.storage_process import check_left_behind, kill_after, start_writer
from tests.helpers.tracing import injecting

COMMITS = 30
POINTS = range(1, 1 + int(os.environ.get("XBUF_TEST_SYSTEM_CALLS", "3")))
"""At which of its calls of one kind a recovery is killed; ``make faults`` asks for more."""
INTERRUPTED = {"file": "pread64,pwrite64,fdatasync,fsync,openat", "lmdb": "pread64,pwrite64,writev,pwritev"}
"""LMDB takes an interrupted fdatasync, which no local file system gives, for a failed one."""
IN_RECOVERY = {"file": ("fsync", "fdatasync", "ftruncate", "rename", "pwrite64"), "lmdb": ("pwrite64", "ftruncate")}

both = pytest.mark.parametrize("backend", BACKENDS)
traced = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@both
@traced
def test_interrupted_calls_are_not_noticed(backend: str, tmp_path: Path) -> None:
    """Every third call is interrupted; every commit is acknowledged all the same."""
    writer = start_writer(backend, tmp_path, 1)
    assert writer.stdout is not None
    lines = [line.strip() for line in islice(writer.stdout, 3)]
    with injecting(writer.pid, f"{INTERRUPTED[backend]}:error=EINTR:when=1+3"):
        lines += kill_after(writer, COMMITS)
    assert set(lines) == {ACKNOWLEDGED}
    check_left_behind(backend, tmp_path, 1, lines)


@both
@traced
def test_a_store_without_descriptors_stops_or_needs_none(backend: str, tmp_path: Path) -> None:
    """The file store stops writes where it needs a new file; LMDB needs none. Nothing acknowledged is lost."""
    writer = start_writer(backend, tmp_path, 1)
    assert writer.stdout is not None
    lines = [line.strip() for line in islice(writer.stdout, 3)]
    with injecting(writer.pid, "openat:error=EMFILE"):
        lines += kill_after(writer, COMMITS)
    assert (lines[-1] == UNKNOWN) == (backend == "file")
    check_left_behind(backend, tmp_path, 1, lines)


@both
@traced
def test_recovery_may_be_killed_again_and_again(backend: str, tmp_path: Path) -> None:
    """At any system call of any attempt; the one that is let through finds everything."""
    lines = kill_after(start_writer(backend, tmp_path / "made", 1), 40)
    for segment in sorted((tmp_path / "made").glob("segment-*.log"))[-1:]:
        with segment.open("ab") as file:
            file.write(b"torn")
    kills = 0
    for call in IN_RECOVERY[backend]:
        folder = tmp_path / call
        shutil.copytree(tmp_path / "made", folder)
        for point in POINTS:
            injection = ("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={point}")
            tracing = ("strace", "-f", "-qq", "-o", os.devnull, *injection)
            recovery = start_writer(backend, folder, 1, *tracing, commits=0)
            recovery.communicate()
            kills += recovery.returncode != 0
        check_left_behind(backend, folder, 1, lines)
    assert kills >= len(IN_RECOVERY[backend])


def halved(call: Callable[..., int]) -> Callable[..., int]:
    """Return a call that writes half of what it is given, and the one byte where that is all."""

    def half(descriptor: int, data: bytes, offset: int) -> int:
        return call(descriptor, data[: max(1, len(data) // 2)], offset)

    return half


def test_short_writes_and_reads_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write and read of the file store does half of its work; nothing is missing then, nor on a whole disk."""
    real_read = os.pread
    monkeypatch.setattr(os, "pwrite", halved(os.pwrite))
    monkeypatch.setattr(os, "pread", lambda file, size, offset: real_read(file, max(1, size // 2), offset))
    with opened("file", tmp_path) as store:
        model = fill(store, 30)
        check_recovered(store, model)
    with opened("file", tmp_path) as store:
        check_recovered(store, model)
    monkeypatch.undo()
    with opened("file", tmp_path) as store:
        check_recovered(store, model)
