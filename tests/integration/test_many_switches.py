"""A hundred switches, forwards and back, under reads and writes: every answer right, and every old index freed."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import numpy as np

from buffer_service.contract.pointer import Pointer, successor
from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.index.generations import generations_in, read_manifest
from buffer_service.index.main import MainIndex
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import rebuild
from buffer_service.settings import BufferSettings, EmbeddingSettings, IndexSettings, RebuildSettings, Settings
from tests.helpers.device import DEVICE
from tests.helpers.generations import request
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until

SWITCHES = 100
REBUILD_EVERY = 5
FIRST_ROWS = 1500
POOL = unit_vectors(40_000, 8)


class History:
    """Writes and reads beside each other, and what was wrong."""

    def __init__(self, buffer: ExperienceBuffer) -> None:
        self.buffer = buffer
        self.acknowledged = 0
        self.removed: set[int] = set()
        self.wrong: list[str] = []
        self.searches = 0
        self.generations: set[int] = set()
        self.stopped = threading.Event()

    def append(self, rows: int) -> None:
        """Row n of the pool becomes experience n + 1."""
        start = self.acknowledged
        self.buffer.append([Experience(visual=POOL[n].tobytes(), confidence=0.5) for n in range(start, start + rows)])
        self.acknowledged = start + rows

    def write(self) -> None:
        """Append, and now and then remove one, until stopped."""
        random = np.random.default_rng(1)
        while not self.stopped.is_set() and self.acknowledged < len(POOL) - 10:
            self.append(int(random.integers(1, 10)))
            gone = int(random.integers(1, self.acknowledged + 1))
            if gone % 7 == 0 and gone not in self.removed:
                self.buffer.remove(gone)
                self.removed.add(gone)
            self.stopped.wait(0.005)

    def read(self, seed: int) -> None:
        """Search for what is known to be there, and for what is known to be gone."""
        random = np.random.default_rng(seed)
        while not self.stopped.is_set():
            gone = set(self.removed)
            wanted = random.integers(1, self.acknowledged + 1, size=4)
            try:
                found = self.buffer.search(POOL[wanted - 1], 3)
            except Exception as error:  # noqa: BLE001 - every failure counts
                self.wrong.append(repr(error))
                continue
            self.searches += 1
            self.generations.add(found.generation)
            if shown := gone & set(found.ids.ravel().tolist()):
                self.wrong.append(f"{shown} were removed and are found at generation {found.generation}")
            for experience, first in zip(wanted.tolist(), found.ids[:, 0].tolist(), strict=True):
                if experience % 7 != 0 and experience != first:
                    self.wrong.append(f"{experience} is not found at generation {found.generation}, but {first}")


def _point_to(folder: Path, generation: int) -> Pointer:
    store = FolderPointer(folder / "pointer")
    manifest, digest = read_manifest(folder / "indexes", generation)
    fields = {"generation": generation, "watermark": manifest.watermark, "manifest_sha256": digest}
    pointer = successor(store.read(), **fields, reason="rollback", now=0.0)
    store.swap(store.read(), pointer)
    return pointer


def _switch(buffer: ExperienceBuffer, folder: Path, number: int) -> None:
    """Go to a new generation, or back and forth between the two that are there."""
    there = generations_in(folder / "indexes")
    if number % REBUILD_EVERY == 0:
        buffer.export()
        index_type = "ivf" if number % (2 * REBUILD_EVERY) == 0 else "flat"
        pointer = rebuild(
            request(folder, max([0, *there]) + 1, index_type=index_type), FolderPointer(folder / "pointer")
        )
    else:
        pointer = _point_to(folder, there[number % 2 - 2] if len(there) > 1 else there[0])
    wait_until(
        lambda: buffer.serving.view.pointer.revision == pointer.revision or buffer.follower.refused,
        f"switch {number} to generation {pointer.generation}",
    )
    assert buffer.follower.refused is None


def test_a_hundred_switches_give_no_wrong_answer_and_leave_nothing_behind(tmp_path: Path) -> None:
    """What is acknowledged is found at every instant, what was removed never, and at the end one index is held."""
    settings = Settings(
        buffer=BufferSettings(capacity=len(POOL)),
        embedding=EmbeddingSettings(dimension=8),
        index=IndexSettings(faiss_backend=DEVICE),
        rebuild=RebuildSettings(mode="off"),
    )
    held: weakref.WeakSet[MainIndex] = weakref.WeakSet()
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        history = History(buffer)
        history.append(FIRST_ROWS)
        threads = [threading.Thread(target=history.write, daemon=True)]
        threads += [threading.Thread(target=history.read, args=(seed,), daemon=True) for seed in range(2)]
        for thread in threads:
            thread.start()
        for number in range(SWITCHES):
            _switch(buffer, tmp_path, number)
            main = buffer.serving.view.main
            assert main is not None
            held.add(main)
        history.stopped.set()
        for thread in threads:
            thread.join()
        del main
        gc.collect()

        assert history.wrong == []
        assert buffer.follower.switches == SWITCHES
        assert history.searches > SWITCHES
        assert len(history.generations) > SWITCHES // REBUILD_EVERY // 2
        assert len(held) <= 2  # the one that is served, and one that a recall check may be looking at
