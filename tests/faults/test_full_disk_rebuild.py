"""Exports and rebuilds on a disk that is really full: they fail, leave nothing, and reads and the pointer stay."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from buffer_client import BufferClient, Experience
from buffer_client.errors import ClientError
from buffer_service.contract.generation import generation_name
from buffer_service.contract.names import POINTER_KEY
from buffer_service.contract.pointer import Pointer
from buffer_service.index.export import read_export
from buffer_service.index.generations import check_files, generations_in, read_manifest
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import rebuild
from tests.helpers.generations import build, export, request
from tests.helpers.mounting import fill_up, memory_disk
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

PAGE_BYTES = 4096
ROWS = dict(enumerate(unit_vectors(1200, 8), start=1))
PAGES = 160
"""More than the second generation of these rows takes."""
STEP = int(os.environ.get("XBUF_TEST_FULL_STEP", "8"))
"""``make faults`` leaves room for every number of pages."""

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")]


def rebuild_job(folder: Path, generation: int) -> tuple[int, str]:
    """Run the program of the Job; returns its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "buffer_service.cli", "rebuild", "--export", folder / "export", "--indexes",
         folder / "indexes", "--generation", str(generation), "--pointer-dir", folder / "pointer"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("index_type", ["flat", "ivf", "hnsw"])
def test_a_rebuild_without_room_fails_whole_wherever_the_room_ends(index_type: str, tmp_path: Path) -> None:
    """The pointer and the generations are as they were, nothing half built is left; with room it succeeds."""
    refused = 0
    for pages in range(0, PAGES, STEP):
        with memory_disk(tmp_path / f"disk-{pages}", 4 << 20) as disk:
            before = build(disk, ROWS, 1, 1200)
            filler = fill_up(disk)
            os.truncate(filler, filler.stat().st_size - pages * PAGE_BYTES)
            try:
                after = rebuild(request(disk, 2, index_type=index_type), FolderPointer(disk / "pointer"))
                assert after.generation == 2
            except OSError:
                refused += 1
                check_untouched(disk, before)
    assert 10 < refused * STEP < PAGES - STEP


def test_a_job_without_room_asks_to_be_tried_again(tmp_path: Path) -> None:
    """Exit code 75 and a sentence; the same Job succeeds once there is room."""
    with memory_disk(tmp_path / "disk", 4 << 20) as disk:
        before = build(disk, ROWS, 1, 1200)
        filler = fill_up(disk)
        code, said = rebuild_job(disk, 2)
        assert (code, "No space left" in said, "Traceback" in said) == (75, True, False), said
        check_untouched(disk, before)
        filler.unlink()
        assert rebuild_job(disk, 2)[0] == 0
        assert FolderPointer(disk / "pointer").read().generation == 2


def check_untouched(disk: Path, before: Pointer) -> None:
    """The pointer is as it was, and beside its generation there is at most a whole one."""
    assert FolderPointer(disk / "pointer").read() == before
    assert {path.name for path in (disk / "indexes").iterdir()} <= {generation_name(1), generation_name(2)}
    for number in generations_in(disk / "indexes"):
        check_files(disk / "indexes", read_manifest(disk / "indexes", number)[0])
    assert {path.name for path in (disk / "pointer").iterdir()} == {POINTER_KEY, ".lock"}


def test_an_export_without_room_leaves_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    """What is half written would take the room that the store needs."""
    changed = {**ROWS, **dict(enumerate(unit_vectors(1200, 8, seed=1), start=1201))}
    with memory_disk(tmp_path / "disk", 8 << 20) as disk:
        export(disk / "export", ROWS, 1200)
        before = {path.name for path in (disk / "export").iterdir()}
        filler = fill_up(disk)
        for pages in (0, 1, 4, 8):
            os.truncate(filler, filler.stat().st_size - pages * PAGE_BYTES)
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC) + "|requested"):
                export(disk / "export", changed, 2400)
            assert {path.name for path in (disk / "export").iterdir()} == before
            assert read_export(disk / "export").rows == 1200
            fill_up(disk)
        filler.unlink()
        assert export(disk / "export", changed, 2400).rows == 2400


@pytest.mark.parametrize("full", ["indexes", "export"])
def test_a_service_that_cannot_rebuild_goes_on_and_rebuilds_once_there_is_room(full: str, tmp_path: Path) -> None:
    """Searches find everything meanwhile, appends are taken, and the status of the index does not go back."""
    vectors = unit_vectors(3000, 8)
    data = tmp_path / "data"
    data.mkdir()
    settings = {"rebuild__every_operations": 500, "rebuild__min_interval_s": 0.1}
    with (
        memory_disk(data / full, 1 << 20) as disk,
        running_service(data, **settings) as service,
        BufferClient(service.url) as client,
    ):
        append(client, vectors[:500])
        wait_until(lambda: client.status().generation == 1, "the first generation")
        (disk / "aside").mkdir()
        filler = fill_up(disk / "aside")
        append(client, vectors[500:2000])
        log = data.with_name("data.log")
        wait_until(lambda: log.read_text().count("the rebuild failed") > 1, "two rebuilds that failed")
        status = client.status()
        assert (status.generation, status.refused) == (1, None)
        np.testing.assert_array_equal(client.search(vectors[:2000:10], k=1).ids[:, 0], np.arange(1, 2001, 10))
        filler.unlink()
        wait_until(lambda: client.status().generation > 1, "a generation once there is room")
        np.testing.assert_array_equal(client.search(vectors[:2000:10], k=1).ids[:, 0], np.arange(1, 2001, 10))


def append(client: BufferClient, vectors: np.ndarray) -> None:  # type: ignore[type-arg]
    """Append in order."""
    try:
        client.append([Experience(visual=row, confidence=0.5) for row in vectors])
    except ClientError as error:
        raise AssertionError(f"an append was not taken: {error}") from error
