"""The experience buffer: durable experiences, nearest-neighbour search, prioritised replay, in one process.

All methods may be called from any thread. Writes return when they are durable and visible to every later read; reads
never wait for writes. Vectors are numpy arrays, lists or little-endian float32 bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from buffer_service.contract import names
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import ServiceStatus
from buffer_service.core import reading
from buffer_service.core.appending import AppendRequest
from buffer_service.core.columns import Columns
from buffer_service.core.conditions import Filter
from buffer_service.core.drawing import Mode, WeightNorm
from buffer_service.core.draws import Draws
from buffer_service.core.experience import Experience, StoredExperience, prepare_experience
from buffer_service.core.follower import Follower, Loader
from buffer_service.core.pending import Waiting
from buffer_service.core.plan import Appended, PriorityUpdate, UpdateStatus
from buffer_service.core.ranking import Rank, Ranker
from buffer_service.core.rebuilder import Exports, Rebuilder
from buffer_service.core.recall import RecallCheck
from buffer_service.core.retrievals import Retrievals
from buffer_service.core.rollback import roll_back
from buffer_service.core.sampler import Drawn
from buffer_service.core.searching import Searcher
from buffer_service.core.serving import Coming, Serving
from buffer_service.core.write import Write
from buffer_service.core.writer import Writer
from buffer_service.errors import ConflictError, InvalidRequestError
from buffer_service.index.engine import Engine
from buffer_service.index.export import ExportManifest
from buffer_service.index.main import TUNED, Effort
from buffer_service.index.metric import Ids
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.view import Found
from buffer_service.settings import Settings, load_settings
from buffer_service.storage.adapters import open_store
from buffer_service.storage.base import BackupSource, Moment, Shape, Store
from buffer_service.storage.group import Group

T = TypeVar("T")


class ExperienceBuffer:
    """A buffer in a folder. Use ``open``; close it, or use it as a context manager."""

    def __init__(self, folder: Path, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._clock = clock
        self.started_at = clock()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._indexes = folder / names.INDEXES_FOLDER
        self._indexes.mkdir(exist_ok=True)
        self.engine = Engine(settings.index.faiss_backend, settings.index.threads)
        pointer_folder = settings.index.pointer_dir or folder / names.POINTER_FOLDER
        self._pointers = FolderPointer(pointer_folder)
        loader = Loader(settings, self.engine, self._indexes)
        wanted = self._pointers.read()
        with ThreadPoolExecutor(1, "opening") as aside:
            # One is mostly checksums, which release the interpreter's lock, the other mostly Python.
            loading = aside.submit(loader.load, wanted, None)
            self.store = self._open_store()
        served, main, obstacle = loader.load_at_start(wanted, loading, self.store.table.header)
        self.serving = Serving(settings, self.store, served, main)
        self._retrievals = Retrievals(self.store.table)
        columns = Columns(self.store)
        self.draws = Draws(settings.sampling, self.store.table, columns, self._retrievals, clock)
        self.recall_check = RecallCheck(settings.index.recall_share)
        ranker = Ranker(self.store.table, settings.embedding.metric, clock)
        self._searcher = Searcher(settings, self.serving, columns, ranker, self._retrievals, self.recall_check)
        self.writer = Writer(
            self.store,
            settings,
            publish=self._publish,
            delta_room=self.serving.delta_room,
            retrievals=self._retrievals,
            searches=self._searcher,
            clock=clock,
        )
        self._exports = Exports(settings, folder / names.EXPORT_FOLDER, self.store, self.writer)
        self.follower = Follower(self._pointers, loader, self.serving, self.writer, clock)
        if obstacle:
            self.follower.refuse(wanted, obstacle)
        self.follower.start()
        self.rebuilder = Rebuilder(
            settings,
            self._exports,
            self.serving,
            (folder / names.EXPORT_FOLDER, self._indexes, pointer_folder),
            lambda: self.follower.refused.reason if self.follower.refused else "",
            self.engine.backend.active,
            self.recall_check,
        )
        if settings.rebuild.mode == "subprocess":
            self.rebuilder.start()

    @classmethod
    def open(cls, folder: Path | str, settings: Settings | None = None) -> Self:
        """Open or create the buffer in this folder, with the settings of the environment unless others are given.

        Raises StoreLockedError when another process has it open, CorruptStoreError and IncompatibleStoreError.
        """
        return cls(Path(folder), settings or load_settings())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is queued and release the store. What was acknowledged does not depend on it."""
        self.rebuilder.close()
        self.recall_check.close()
        self.follower.close()
        self._retrievals.take_all_from_now()
        self.writer.close()
        self.draws.close()
        self.store.close()
        self.engine.close()

    def append(self, experiences: Sequence[Experience]) -> Appended:
        """Add experiences in this order; all or none. Durable and searchable on return."""
        return self.append_soon(experiences).result()

    def append_soon(self, experiences: Sequence[Experience]) -> Future[Appended]:
        """Like append, but returns at once with a future. Raises InvalidRequestError, as the future may, too."""
        future: Future[Appended] = Future()
        self.writer.put(self.append_to(future, experiences))
        return future

    def append_to(
        self, future: Future[Appended] | Waiting[Appended], experiences: Sequence[Experience]
    ) -> Write[Appended]:
        """Return an append that is to be put to the writer, and answers this future.

        Raises InvalidRequestError, and RateLimitedError where appends are to wait for draws.
        """
        self._check_rows(len(experiences), "experiences")
        self.draws.limiter.require_room_for_append()
        request = AppendRequest([prepare_experience(experience, self.settings) for experience in experiences])
        return Write(lambda plan: plan.append(request), future, request)

    def remove(self, experience: int) -> int:
        """Remove one experience and return the sequence number of that."""
        return self.remove_soon(experience).result()

    def remove_soon(self, experience: int) -> Future[int]:
        """Like remove, but returns at once with a future."""
        return self.writer.submit(lambda plan: plan.remove(experience))

    def update_priorities(self, updates: Sequence[PriorityUpdate]) -> list[UpdateStatus]:
        """Set priorities; returns what became of each."""
        future: Future[list[UpdateStatus]] = Future()
        self.writer.put(self.update_priorities_to(future, updates))
        return future.result()

    def update_priorities_to(
        self, future: Future[list[UpdateStatus]] | Waiting[list[UpdateStatus]], updates: Sequence[PriorityUpdate]
    ) -> Write[list[UpdateStatus]]:
        """Like append_to."""
        self._check_rows(len(updates), "updates")
        return Write(lambda plan: plan.set_priorities(updates), future)

    def report_outcomes(
        self, outcomes: Sequence[tuple[int, bool]], request_id: str | None = None
    ) -> list[UpdateStatus]:
        """Count successes and failures of experiences; with a request_id a retry counts nothing twice."""
        future: Future[list[UpdateStatus]] = Future()
        self.writer.put(self.report_outcomes_to(future, outcomes, request_id))
        return future.result()

    def report_outcomes_to(
        self,
        future: Future[list[UpdateStatus]] | Waiting[list[UpdateStatus]],
        outcomes: Sequence[tuple[int, bool]],
        request_id: str | None,
    ) -> Write[list[UpdateStatus]]:
        """Like append_to."""
        self._check_rows(len(outcomes), "outcomes")
        return Write(lambda plan: plan.report_outcomes(outcomes, request_id), future)

    def search(
        self,
        queries: npt.NDArray[np.float32],
        k: int = 10,
        *,
        min_sequence: int = 0,
        wanted: Filter | None = None,
        rank: Rank | None = None,
        effort: Effort = TUNED,
    ) -> Found:
        """Return the k nearest experiences to each of the (n, dimension) queries, at a sequence >= min_sequence.

        With ``wanted`` only those that pass this filter, see ``core.conditions``. With ``rank`` the best k of more
        candidates, as a ``core.ranking.Ranked``. Raises InvalidRequestError and SequenceTimeoutError.
        """
        return self._searcher.search(queries, k, min_sequence, wanted, rank, effort)

    def sample(
        self,
        size: int,
        *,
        beta: float | None = None,
        unique: bool = False,
        mode: Mode = "prioritised",
        weight_norm: WeightNorm = "batch",
        wanted: Filter | None = None,
    ) -> Drawn:
        """Draw a batch, with ``wanted`` of what passes this filter; empty where there is nothing to draw from.

        Raises InvalidRequestError, and by the settings of the buffer TooFewExperiencesError and RateLimitedError.
        """
        self._check_rows(size, "draws")
        return self.draws.draw(size, beta, unique=unique, mode=mode, weight_norm=weight_norm, wanted=wanted)

    def get(self, experience: int) -> StoredExperience:
        """Return one experience with its vector; raises UnknownExperienceError, EvictedExperienceError."""
        return reading.one(self.store, self.settings.sampling, experience, self._clock())

    def get_many(self, ids: Sequence[int]) -> list[StoredExperience | None]:
        """Return experiences without vectors, None for those that have gone."""
        return reading.many(self.store, self.settings.sampling, ids, self._clock())

    def get_packed(self, ids: Ids) -> tuple[npt.NDArray[np.bool_], bytes]:
        """Return which of these ids are live, and those as one MessagePack array, see ``reading.packed``."""
        return reading.packed(self.store, self.settings.sampling, ids, self._clock())

    def page(self, cursor: int, limit: int, *, vectors: bool = False) -> tuple[list[StoredExperience], int | None]:
        """Return up to ``limit`` experiences with ids from the cursor on, oldest first, and the next cursor."""
        self._check_rows(limit, "experiences")
        ids = self.store.table.ids_from(cursor, limit + 1)
        found = [item for item in self.get_many(ids[:limit]) if item is not None]
        if vectors:
            found = reading.with_vectors(self.store, found)
        return found, ids[limit] if len(ids) > limit else None

    def export(self) -> ExportManifest:
        """Bring the export up to what is acknowledged now; durable on return."""
        return self._exports.write()

    def backup(self) -> BackupSource:
        """Return the store at one moment, which ``storage.backup.stream`` copies while reads and writes go on."""
        return self.writer.between_groups(self.store.backup).result()

    def moment(self) -> Moment:
        """Return what is live at one moment, which ``core.tabular.written`` puts into a file for analysis."""
        return self.writer.between_groups(self.store.moment).result()

    def rollback(self, generation: int | None = None) -> Pointer:
        """Point to an earlier generation on disk, the newest before the one served unless one is named.

        Raises ConflictError where the pointer is not this process's to move, or the generation is not there.
        """
        if self.settings.rebuild.mode == "external":
            raise ConflictError("the operator moves this buffer's pointer: use kubectl xbuf rollback")
        return roll_back(
            self._pointers, self._indexes, self.serving.view.pointer.generation, generation, now_s=self._clock()
        )

    def status(self) -> ServiceStatus:
        """Return the state at this moment; touches no disk but for the store's size."""
        return reading.status(self)

    def _open_store(self) -> Store:
        embedding, persistence = self.settings.embedding, self.settings.persistence
        return open_store(
            persistence.backend,
            self.folder / names.STORE_FOLDER,
            Shape(embedding.dimension, embedding.metric),
            persistence.map_size_bytes,
        )

    def _publish(self, group: Group, coming: Coming | None) -> None:
        view = self.serving.following(group, coming)
        # Together, or one caller would be shown what has gone after another has been told that it has.
        with self.store.table.lock:
            self.draws.sampler.note(group.publish())
            self.serving.publish(view)
            self.store.table.published.notify_all()

    def _check_rows(self, count: int, what: str) -> None:
        limit = self.settings.server.rows_max
        if not 1 <= count <= limit:
            raise InvalidRequestError(f"{count} {what} in one request; give 1 to {limit}")
