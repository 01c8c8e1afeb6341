"""Exports, and the rebuilds that run on this machine: the same program as in a Job, as a subprocess."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from buffer_service.core.recall import RecallCheck
from buffer_service.core.serving import Serving
from buffer_service.core.writer import Writer
from buffer_service.errors import ExperienceBufferError
from buffer_service.index.errors import IndexFailure
from buffer_service.index.export import Exporter, ExportManifest, ExportPoint
from buffer_service.index.generations import generations_in
from buffer_service.index.metric import Ids, Vectors
from buffer_service.rests import Rests
from buffer_service.settings import Settings
from buffer_service.storage.base import Store

log = logging.getLogger(__name__)

_POLL_INTERVAL_S = 0.1
_BACKOFF_DOUBLINGS_MAX = 8
_TOMBSTONES_MIN = 1000
_ERROR_LINES = 3
_TERMINATION_GRACE_S = 5.0
_EXPORT_REST = 1
"""Times as long as it worked that an export rests."""
_NICELY = ("nice", "-n", "10")
"""A build on the serving machine takes what searches leave."""


class Exports:
    """Brings the export folder up to date, one caller at a time."""

    def __init__(self, settings: Settings, folder: Path, store: Store, writer: Writer) -> None:
        embedding = settings.embedding
        self._exporter = Exporter(folder, embedding.dimension, embedding.metric)
        self._store = store
        self._writer = writer
        self._lock = threading.Lock()

    def write(self) -> ExportManifest:
        """Export what is acknowledged at this moment; durable on return."""
        with self._lock:
            point = self._writer.between_groups(self._point).result()
            rest = Rests(_EXPORT_REST, time.sleep)

            def read(ids: Ids) -> tuple[Ids, Vectors]:
                found = self._store.vectors(ids)
                rest()
                return found

            return self._exporter.write(point, read)

    def _point(self) -> ExportPoint:
        table = self._store.table
        return ExportPoint(table.header.sequence, table.header.next_id - 1, table.live_ids())


class Rebuilder:
    """One thread that rebuilds the index when enough has changed. Not used where the operator starts rebuild Jobs."""

    def __init__(
        self,
        settings: Settings,
        exports: Exports,
        serving: Serving,
        folders: tuple[Path, Path, Path],
        refusal: Callable[[], str],
        device: str,
        check: RecallCheck,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._exports = exports
        self._serving = serving
        self._export, self._indexes, self._pointer = folders
        self._refusal = refusal
        self._device = device
        self._check = check
        self._clock = clock
        self._next_start = 0.0
        self._failures = 0
        self.error = ""
        self.running = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rebuilder", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and end a rebuild that is running; it leaves nothing half done."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_POLL_INTERVAL_S):
            reason = self._due()
            if not reason:
                continue
            log.info("the index is rebuilt: %s", reason)
            self.running = True
            self._next_start = self._clock() + self._settings.rebuild.min_interval_s * 2**self._failures
            try:
                self._rebuild()
                self._failures, self.error = 0, ""
            except (OSError, ExperienceBufferError, IndexFailure) as error:
                self._failures = min(self._failures + 1, _BACKOFF_DOUBLINGS_MAX)
                self.error = str(error)
                log.error("the rebuild failed, the index in service stays: %s", error)  # noqa: TRY400
            finally:
                self.running = False

    def _due(self) -> str:
        """Return why the index should be rebuilt now, empty if it should not."""
        return next(self._reasons(), "") if self._clock() >= self._next_start else ""

    def _reasons(self) -> Iterator[str]:
        view, settings = self._serving.view, self._settings.rebuild
        pending = self._serving.pending_operations()
        if pending >= settings.every_operations:
            yield f"{pending} operations since the watermark"
        if view.main is None or not pending:
            return
        left, rows = view.main.tombstones, len(view.main.ids)
        if left >= max(_TOMBSTONES_MIN, settings.tombstone_share * rows):
            yield f"{left} of {rows} rows have left"
        recall, floor = self._check.recall(view.pointer.generation), self._settings.index.recall_floor
        if recall is not None and recall < floor:
            yield f"the recall of live searches is {recall:.3f}, the floor {floor}"
        age_s = time.time() - view.main.manifest.built_at
        if settings.after_s is not None and age_s >= settings.after_s:
            yield f"the index is {age_s:.0f} s old"

    def _rebuild(self) -> None:
        manifest = self._exports.write()
        pointer = self._serving.view.pointer
        generation = max([pointer.generation, *generations_in(self._indexes)]) + 1
        index = self._settings.index
        command = [
            *_NICELY, sys.executable, "-m", "buffer_service.cli", "rebuild",
            "--export", str(self._export), "--indexes", str(self._indexes), "--pointer-dir", str(self._pointer),
            "--generation", str(generation), "--type", index.type, "--storage", index.storage,
            "--device", self._device, "--n-probes", str(index.faiss_n_probes),
            "--recall-floor", str(index.recall_floor), "--keep", str(index.keep_generations),
            "--threads", str(self._settings.rebuild.threads), "--end-with", str(os.getpid()),
            "--revision", str(pointer.revision),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            output = self._wait(process)
        if process.returncode and not self._stop.is_set():
            raise IndexFailure(f"rebuild of generation {generation}: {' '.join(output.splitlines()[-_ERROR_LINES:])}")
        self._wait_until_served(manifest.watermark, pointer.revision)

    def _wait_until_served(self, watermark: int, revision: int) -> None:
        """Wait for the switch, so that the next rebuild is counted from there; raises IndexFailure if it is refused.

        After a rollback in between there is none.
        """
        while (pointer := self._serving.view.pointer).watermark < watermark and not self._stop.wait(_POLL_INTERVAL_S):
            if pointer.moved_back_since(revision):
                return
            if reason := self._refusal():
                raise IndexFailure(reason)

    def _wait(self, process: subprocess.Popen[str]) -> str:
        while True:
            try:
                return process.communicate(timeout=_POLL_INTERVAL_S)[1]
            except subprocess.TimeoutExpired:
                if self._stop.is_set():
                    process.terminate()
                    try:
                        return process.communicate(timeout=_TERMINATION_GRACE_S)[1]
                    except subprocess.TimeoutExpired:
                        process.kill()
