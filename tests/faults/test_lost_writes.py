"""Unsynced writes that are lost, torn or out of order beneath a real process, and a sync or a read that fails there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path

import pytest

from tests.helpers.mounting import unmount
from tests.helpers.storage_killed import ACKNOWLEDGED, UNKNOWN
from tests.helpers.storage_open import BACKENDS, fill, opened
from tests.helpers.storage_process import check_left_behind, start_writer
from tests.helpers.survivors import survivors_in
from tests.helpers.waiting import wait_until

HISTORIES = int(os.environ.get("XBUF_TEST_LOST_WRITES", "2"))
"""Each has about a hundred moments at which the power is lost; ``make faults`` asks for more."""
COMMITS = 20
NEVER = 1_000_000
LAZY_DISK = Path(__file__).parents[1] / "helpers" / "lazy_disk.py"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/fuse").exists() or find_library("fuse3") is None,
        reason="needs root, /dev/fuse and libfuse3",
    ),
]
both = pytest.mark.parametrize("backend", BACKENDS)


@contextmanager
def lazy(folder: Path, backend: str, *options: str | int, pipe: int | None = None) -> Iterator[Path]:
    """Mount a lazy disk; what a power loss would leave is in ``folder / "survivors"`` when it is unmounted."""
    mountpoint = folder / "mount"
    mountpoint.mkdir()
    given: list[str | int] = [*options, *(("--pipe", pipe) if pipe is not None else ())]
    given += ["--whole-sectors"] if backend == "lmdb" else []
    command = [sys.executable, LAZY_DISK, mountpoint, folder / "survivors", *map(str, given)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, pass_fds=() if pipe is None else (pipe,)) as disk:
        try:
            wait_until(lambda: mountpoint.is_mount() or disk.poll() is not None, "the lazy disk is mounted")
            assert disk.poll() is None
            yield mountpoint
        finally:
            if mountpoint.is_mount():
                unmount(mountpoint)
            try:
                disk.wait(20)
            except subprocess.TimeoutExpired:
                disk.kill()


def check_histories(backend: str, folder: Path, *options: str | Path) -> None:
    """Lose the power at every moment of the histories, and check what each loss leaves."""
    for seed in range(HISTORIES):
        there = folder / str(seed)
        there.mkdir()
        reading, writing = os.pipe()
        with lazy(there, backend, "--seed", seed, *options, pipe=reading) as disk:
            writer = start_writer(backend, disk, seed, commits=COMMITS, output=writing)
            os.close(writing)
            _, errors = writer.communicate()
            assert writer.returncode == 0, errors
        os.close(reading)
        moments = survivors_in(there / "survivors")
        assert len(moments) > 3 * COMMITS
        for moment in moments:
            check_left_behind(backend, moment.disk, seed, moment.lines)
        assert moments[-1].lines.count(ACKNOWLEDGED) == COMMITS


@both
def test_whatever_becomes_of_unsynced_writes_nothing_acknowledged_is_lost(backend: str, tmp_path: Path) -> None:
    """At every moment each unsynced write may be there, gone, in part or as junk, in any order."""
    with opened(backend, tmp_path / "made"):
        pass
    check_histories(backend, tmp_path, "--content", tmp_path / "made")


@both
def test_a_store_whose_creation_is_cut_short_opens_and_then_loses_nothing_either(backend: str, tmp_path: Path) -> None:
    """The first start may be cut short anywhere, and names that were not synced are gone, too."""
    check_histories(backend, tmp_path)


@both
def test_a_failed_sync_that_drops_what_it_should_have_written_loses_nothing_acknowledged(
    backend: str, tmp_path: Path
) -> None:
    """The kernel forgets the pages and the next sync would succeed: no write is taken before a restart."""
    with lazy(tmp_path, backend, "--every", NEVER, "--failing-sync", 12) as disk:
        writer = start_writer(backend, disk, 1, commits=COMMITS)
        output, errors = writer.communicate()
        assert "AssertionError" not in errors, errors
        lines = output.split("\n")[:-1]
        assert (lines[-1], ACKNOWLEDGED in lines) == (UNKNOWN, True)
        check_left_behind(backend, disk, 1, lines)
    check_left_behind(backend, survivors_in(tmp_path / "survivors")[-1].disk, 1, lines)


@pytest.mark.parametrize(
    ("backend", "pattern", "named"),
    [("file", "snapshot-*", True), ("file", "segment-*", True), ("lmdb", "data.mdb", False)],
)
def test_a_block_that_cannot_be_read_refuses_to_start(backend: str, pattern: str, named: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a case's field
    """What cannot be read is not skipped, and the disk stays as it is; the message says what failed."""
    with opened(backend, tmp_path / "made") as store:
        fill(store, 60)
    newest = max((tmp_path / "made").glob(pattern))
    content = newest.read_bytes()
    with lazy(tmp_path, backend, "--content", tmp_path / "made", "--unreadable", newest.name, 0) as disk:
        writer = start_writer(backend, disk, 1, commits=1)
        output, errors = writer.communicate()
    assert (writer.returncode, output) == (1, "")
    assert (newest.name if named else "Input/output error") in errors.splitlines()[-1]
    assert (survivors_in(tmp_path / "survivors")[-1].disk / newest.name).read_bytes() == content
