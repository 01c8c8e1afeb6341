"""A running service, and a store, on a disk that is really full: no space, or no more files."""

from __future__ import annotations

import contextlib
import os
import shutil
from functools import partial
from pathlib import Path
from random import Random

import pytest

from buffer_client import BufferClient, Experience
from buffer_client.errors import EvictedExperienceError, StorageFullError
from buffer_service.errors import StorageFullError as StoreFullError
from buffer_service.storage.base import Store
from buffer_service.storage.file_store import FileStore
from buffer_service.storage.maintenance import Limits
from tests.helpers import storage_open
from tests.helpers.mounting import ext4_disk, fill_up, memory_disk
from tests.helpers.storage_invariants import check_recovered
from tests.helpers.storage_model import Model
from tests.helpers.storage_open import BACKENDS, commit_random, fill, opened
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

VECTORS = unit_vectors(400, 8)
INODES = 40
ROOM_BYTES = 40 << 10
LONG_SEGMENTS = Limits(segment_bytes=1 << 20, snapshot_log_bytes=1 << 10, snapshot_changes=12)
COMMITS_IN_A_PAGE = 8
"""The last page of the log has room for these even when the disk is full."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mkfs.ext4") is None, reason="needs root and mkfs.ext4"),
]
both = pytest.mark.parametrize("backend", BACKENDS)


def append(client: BufferClient, row: int, filler_bytes: int = 100) -> int:
    """Append one experience with a vector of its own; returns its id."""
    filler = {"filler": Random(row).randbytes(filler_bytes // 2).hex()}
    return int(client.append([Experience(visual=VECTORS[row], confidence=0.5, metadata=filler)]).ids[0])


def is_taken(client: BufferClient, rows: dict[int, int], filler_bytes: int = 100_000) -> bool:
    """Append one experience, and note its row under its id; False where there is no space."""
    row = max(rows.values(), default=-1) + 1
    try:
        rows[append(client, row, filler_bytes)] = row
    except StorageFullError:
        return False
    return True


def append_until_refused(client: BufferClient, rows: dict[int, int], filler_bytes: int) -> None:
    """Append until there is no space."""
    while is_taken(client, rows, filler_bytes):
        pass


def check_reads(client: BufferClient, rows: dict[int, int]) -> None:
    """Everything acknowledged is there and found, in every way of reading; nothing else is."""
    ids = list(rows)
    assert [item.id for item in client.experiences()] == sorted(ids)
    found = client.search(VECTORS[[rows[item] for item in ids]], k=1)
    assert found.ids[:, 0].tolist() == ids
    assert set(client.sample(64).ids.tolist()) <= set(ids)
    assert client.get(ids[-1]).id == ids[-1]
    assert client.status().size == len(ids)


@both
def test_a_full_disk_stops_appends_alone_and_space_that_returns_is_used_without_a_restart(
    backend: str, tmp_path: Path
) -> None:
    """507 and nothing done; reads, removals and outcomes go on, also after a crash on the full disk."""
    settings = {"persistence__backend": backend, "rebuild__mode": "off"}
    rows: dict[int, int] = {}
    with ext4_disk(tmp_path / "disk", tmp_path / "image") as disk:
        with running_service(disk / "data", **settings) as service, BufferClient(service.url, retries=0) as client:
            for row in range(50):
                rows[append(client, row)] = row
            filler = fill_up(disk)
            append_until_refused(client, rows, filler_bytes=100_000)
            append_until_refused(client, rows, filler_bytes=2_000)
            check_reads(client, rows)
            for removed in list(rows)[:3]:
                client.remove(removed)
                del rows[removed]
                with pytest.raises(EvictedExperienceError):
                    client.get(removed)
            kept = next(iter(rows))
            assert [str(status) for status in client.report_outcomes([kept], [True])] == ["applied"]
            check_reads(client, rows)
            assert client.status().store.writable
            service.kill()

        with running_service(disk / "data", **settings) as service, BufferClient(service.url, retries=0) as client:
            check_reads(client, rows)
            assert client.get(kept).success_count == 1
            fill_up(disk)
            append_until_refused(client, rows, filler_bytes=2_000)
            filler.unlink()
            wait_until(lambda: is_taken(client, rows), "an append is taken again")
            check_reads(client, rows)
        with running_service(disk / "data", **settings) as service, BufferClient(service.url) as client:
            check_reads(client, rows)


@both
def test_room_for_a_part_of_a_write_is_a_full_disk_too(backend: str, tmp_path: Path) -> None:
    """The part is taken back, and nothing but space is needed to go on."""
    rows: dict[int, int] = {}
    with (
        ext4_disk(tmp_path / "disk", tmp_path / "image") as disk,
        running_service(disk / "data", persistence__backend=backend, rebuild__mode="off") as service,
        BufferClient(service.url, retries=0) as client,
    ):
        assert is_taken(client, rows)
        filler = fill_up(disk)
        os.truncate(filler, filler.stat().st_size - ROOM_BYTES)
        append_until_refused(client, rows, filler_bytes=100_000)
        check_reads(client, rows)
        filler.unlink()
        wait_until(lambda: is_taken(client, rows), "an append is taken again")
        check_reads(client, rows)


@both
def test_a_disk_without_room_for_more_files_is_a_full_disk(backend: str, tmp_path: Path) -> None:
    """What needs a new file is refused, or needs none; files that go make it work again."""
    model, random = Model(), Random(0)
    with memory_disk(tmp_path / "disk", 64 << 20, INODES) as disk, opened(backend, disk / "store") as store:
        model = commit_random(store, model, random)
        fillers = [disk / f"filler-{number}" for number in range(INODES)]
        with contextlib.suppress(OSError):
            for filler in fillers:
                filler.touch()
        refused = 0
        for _ in range(40):
            try:
                model = commit_random(store, model, random)
            except StoreFullError:
                refused += 1
        assert (refused > 0) == (backend == "file")
        check_recovered(store, model)
        for filler in fillers:
            filler.unlink(missing_ok=True)
        for _ in range(40):
            model = commit_random(store, model, random)
        store.close()
        with opened(backend, disk / "store") as recovered:
            check_recovered(recovered, model)


def test_a_snapshot_without_room_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Commits that still find room go on, nothing of the snapshot stays, and a later one is written."""
    monkeypatch.setattr(storage_open, "SMALL", LONG_SEGMENTS)
    random = Random(1)
    with memory_disk(tmp_path / "disk", 8 << 20) as disk:
        folder = disk / "store"
        with opened("file", folder) as store:
            model = fill(store, 40)
            while wait_until(partial(_outcome, store), "the background is done") != "nothing to do":
                model = commit_random(store, model, random)
            before = snapshots(folder)
            assert len(before) == 2
            filler = fill_up(disk)
            for _ in range(COMMITS_IN_A_PAGE):
                model = commit_random(store, model, random)
                wait_until(partial(_outcome, store), "the background is done")
        assert "a snapshot could not be written" in caplog.text
        assert (snapshots(folder), list(folder.glob("*.tmp"))) == (before, [])
        with opened("file", folder) as store:
            check_recovered(store, model)
            filler.unlink()
            for _ in range(40):
                model = commit_random(store, model, random)
        assert snapshots(folder)[-1] > before[-1]
        with opened("file", folder) as store:
            check_recovered(store, model)


def _outcome(store: Store) -> str:
    assert isinstance(store, FileStore)
    job = store._maintenance._job
    if job is None:
        return "nothing to do"
    return "to be looked at" if job.done() else ""


def snapshots(folder: Path) -> list[str]:
    """Return the names of the snapshots, oldest first."""
    return sorted(path.name for path in folder.glob("snapshot-*.bin"))
