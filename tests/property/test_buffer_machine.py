"""The whole buffer against a model: any order of writes, reads, rebuilds, switches, rollbacks and restarts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.plan import PriorityUpdate, UpdateStatus
from buffer_service.errors import ConflictError, EvictedExperienceError, UnknownExperienceError
from buffer_service.index.generations import generations_in
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import rebuild
from buffer_service.settings import (
    BufferSettings,
    EmbeddingSettings,
    IndexSettings,
    PersistenceSettings,
    RebuildSettings,
    Settings,
)
from tests.helpers.generations import request
from tests.helpers.vectors import Vectors, brute_force, unit_vectors

CAPACITY = 12
DIMENSION = 6
POOL = unit_vectors(400, DIMENSION, seed=3)


class BufferMachine(RuleBasedStateMachine):
    """Rules act on the buffer and on the model alike; the invariants compare them."""

    backend = "file"
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="xbuf-machine-"))
        self.settings = Settings(
            buffer=BufferSettings(capacity=CAPACITY),
            embedding=EmbeddingSettings(dimension=DIMENSION),
            index=IndexSettings(faiss_backend="cpu", keep_generations=3),
            rebuild=RebuildSettings(mode="off"),
            persistence=PersistenceSettings(backend=self.backend),  # type: ignore[arg-type] # one of the two
        )
        self.rows: dict[int, Vectors] = {}
        self.successes: dict[int, int] = {}
        self.versions: dict[int, int] = {}
        self.issued = 0
        self.sequence = 0

    @initialize()
    def open(self) -> None:
        """Start with an empty folder."""
        self.buffer = self._open()

    @rule(target=ids, count=st.integers(1, 5))
    def append(self, count: int) -> object:
        """Ids are dense, the oldest leave beyond the capacity."""
        vectors = [POOL[(self.issued + place) % len(POOL)] for place in range(count)]
        appended = self.buffer.append([Experience(confidence=0.5, visual=row.tobytes()) for row in vectors])
        assert appended.ids == list(range(self.issued + 1, self.issued + 1 + count))
        self.issued += count
        for experience, row in zip(appended.ids, vectors, strict=True):
            self.rows[experience] = row
            self.successes[experience] = 0
        for experience in sorted(self.rows)[: max(0, len(self.rows) - CAPACITY)]:
            del self.rows[experience]
        self.sequence = appended.sequence
        return multiple(*appended.ids)

    @rule(experience=ids)
    def remove(self, experience: int) -> None:
        """A removed experience is gone; removing it again is an error that says so."""
        if experience in self.rows:
            self.sequence = self.buffer.remove(experience)
            del self.rows[experience]
        else:
            with pytest.raises(EvictedExperienceError):
                self.buffer.remove(experience)

    @rule(experience=ids, priority=st.floats(0, 5), stale=st.booleans())
    def set_priority(self, experience: int, priority: float, *, stale: bool) -> None:
        """An update applies to live experiences unless it is older than their last change."""
        sequence = 0 if stale else None
        (status,) = self.buffer.update_priorities([PriorityUpdate(experience, priority, sequence)])
        if experience not in self.rows:
            assert status is UpdateStatus.EVICTED
        elif stale:
            assert status is UpdateStatus.STALE
        else:
            assert status is UpdateStatus.APPLIED
            assert self.buffer.get(experience).priority == max(priority, 0.01)

    @rule(experience=ids, request_id=st.sampled_from(["a", "b", None]))
    def report_outcome(self, experience: int, request_id: str | None) -> None:
        """Outcomes count once for each request id."""
        before = self.buffer.store.table.requests.get(request_id or "")
        try:
            (status,) = self.buffer.report_outcomes([(experience, True)], request_id)
        except ConflictError:
            assert before is not None
            return
        if before is None and experience in self.rows:
            assert status is UpdateStatus.APPLIED
            self.successes[experience] += 1

    @rule()
    def build_and_switch(self) -> None:
        """A rebuild from an export, and the switch to it."""
        self.buffer.export()
        generation = max([0, *generations_in(self.folder / "indexes")]) + 1
        pointer = rebuild(
            request(self.folder, generation, index_type="auto", keep=3), FolderPointer(self.folder / "pointer")
        )
        self._follow(pointer.revision)

    @rule()
    def roll_back(self) -> None:
        """Back to the generation before, where there is one."""
        try:
            pointer = self.buffer.rollback()
        except ConflictError:
            return
        self._follow(pointer.revision)

    @rule()
    def restart(self) -> None:
        """Close and open again."""
        self.buffer.close()
        self.buffer = self._open()

    @invariant()
    def searches_are_exact(self) -> None:
        """Every live experience is found, in the right order, and nothing else."""
        query = POOL[self.issued % len(POOL)][None, :]
        found = self.buffer.search(query, CAPACITY + 3, min_sequence=self.sequence)
        expected = brute_force(self.rows, query[0], CAPACITY + 3)
        assert [int(experience) for experience in found.ids[0] if experience > 0] == expected

    @invariant()
    def records_are_those_of_the_model(self) -> None:
        """Pages show the live experiences in FIFO order with their counters."""
        page, following = self.buffer.page(0, 100)
        assert [item.id for item in page] == sorted(self.rows)
        assert following is None
        assert [item.success_count for item in page] == [self.successes[item.id] for item in page]

    @invariant()
    def draws_are_live(self) -> None:
        """Nothing that left is drawn."""
        drawn = self.buffer.sample(8)
        assert set(drawn.ids.tolist()) <= set(self.rows)
        assert drawn.table_size == len(self.rows)

    @invariant()
    def unknown_ids_are_unknown(self) -> None:
        """An id of the future is no evicted one."""
        with pytest.raises(UnknownExperienceError):
            self.buffer.get(self.issued + 1)

    def _open(self) -> ExperienceBuffer:
        """Open without the follower's thread: the rules follow the pointer themselves, at once."""
        buffer = ExperienceBuffer.open(self.folder, self.settings)
        buffer.follower.close()
        return buffer

    def _follow(self, revision: int) -> None:
        self.buffer.follower.follow()
        assert self.buffer.serving.view.pointer.revision == revision

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.buffer.close()
        shutil.rmtree(self.folder)


class LmdbBufferMachine(BufferMachine):
    """The same rules on the other adapter."""

    backend = "lmdb"


_PROFILE = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestFile = BufferMachine.TestCase
TestFile.settings = _PROFILE
TestLmdb = LmdbBufferMachine.TestCase
TestLmdb.settings = _PROFILE
