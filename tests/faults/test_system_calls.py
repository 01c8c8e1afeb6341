"""Kills and errors at chosen system calls of a real process, LMDB's own calls included."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.storage_killed import ACKNOWLEDGED, FULL, UNKNOWN
from tests.helpers.storage_open import BACKENDS, opened
from tests.helpers.storage_process import check_left_behind, start_writer

COMMITS = 6
POINTS = range(1, 1 + int(os.environ.get("XBUF_TEST_SYSTEM_CALLS", "3")), 2)
"""At which of a process's calls of one kind it is killed; ``make faults`` asks for more."""

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def run_with(injection: str, backend: str, folder: Path) -> tuple[int, list[str]]:
    """Run the process under an injection of strace; returns its exit status and the outcomes that it printed."""
    tracing = ("strace", "-f", "--seccomp-bpf", "-qq", "-o", os.devnull, "-e", f"inject={injection}")
    process = start_writer(backend, folder, 1, *tracing, commits=COMMITS)
    output, errors = process.communicate()
    assert "AssertionError" not in errors, errors
    return process.returncode, output.split("\n")[:-1]


def make_store(backend: str, folder: Path) -> None:
    """Create an empty store, so that only calls of commits are counted."""
    with opened(backend, folder):
        pass


@pytest.mark.parametrize(
    ("backend", "call"),
    [
        ("file", "pwrite64"),
        ("file", "fdatasync"),
        ("file", "fsync"),
        ("file", "rename"),
        ("lmdb", "pwrite64"),
        ("lmdb", "writev"),
        ("lmdb", "fdatasync"),
    ],
)
def test_a_kill_at_any_system_call_loses_nothing_acknowledged(backend: str, call: str, tmp_path: Path) -> None:
    """The process dies in the call; what it printed before is there."""
    kills = 0
    for point in POINTS:
        folder = tmp_path / str(point)
        status, lines = run_with(f"{call}:signal=KILL:when={point}", backend, folder)
        check_left_behind(backend, folder, 1, lines)
        kills += status != 0
    assert kills > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failed_sync_latches_writes_and_reads_go_on(backend: str, tmp_path: Path) -> None:
    """The process itself checks that the next commit is refused, and that everything acknowledged can be read."""
    make_store(backend, tmp_path)
    _, lines = run_with("fdatasync:error=EIO:when=5", backend, tmp_path)
    assert lines[-1] == UNKNOWN
    assert ACKNOWLEDGED in lines
    check_left_behind(backend, tmp_path, 1, lines)


def test_a_failed_write_of_the_meta_page_of_lmdb_latches_writes_and_reads_go_on(tmp_path: Path) -> None:
    """LMDB refuses even reads from then on; the store opens it again for them."""
    make_store("lmdb", tmp_path)
    _, lines = run_with("pwrite64:error=EIO:when=6", "lmdb", tmp_path)
    assert lines[-1] == UNKNOWN
    assert ACKNOWLEDGED in lines
    check_left_behind("lmdb", tmp_path, 1, lines)


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_full_disk_refuses_and_heals(backend: str, error: str, tmp_path: Path) -> None:
    """The commits that met the full disk are refused whole, the later ones go on."""
    call = {"file": "pwrite64", "lmdb": "writev"}[backend]
    _, lines = run_with(f"{call}:error={error}:when=5..6", backend, tmp_path)
    assert FULL in lines
    assert lines[-1] == ACKNOWLEDGED
    check_left_behind(backend, tmp_path, 1, lines)
