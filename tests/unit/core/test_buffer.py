"""The buffer in process: what its users rely on, and what it does when something breaks."""

from __future__ import annotations

import queue
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import pytest

from buffer_service.contract.generation import INDEX_FILE, generation_name
from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.appending import AppendRequest
from buffer_service.core.plan import Plan
from buffer_service.errors import (
    BacklogError,
    ConflictError,
    EvictedExperienceError,
    OutcomeUnknownError,
    StorageFullError,
)
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import rebuild
from buffer_service.settings import BufferSettings, EmbeddingSettings, IndexSettings, RebuildSettings, Settings
from buffer_service.storage.group import Group
from buffer_service.storage.operations import Append
from tests.helpers.generations import request
from tests.helpers.vectors import Vectors, unit_vectors

VECTORS = unit_vectors(60, 4)


def _settings(**groups: object) -> Settings:
    given: dict[str, object] = {
        "embedding": EmbeddingSettings(dimension=4),
        "rebuild": RebuildSettings(mode="off"),
        "index": IndexSettings(faiss_backend="cpu"),
    }
    return Settings(**{**given, **groups})  # type: ignore[arg-type] # groups of settings by name


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[ExperienceBuffer]:
    """An empty buffer of four dimensions that follows its pointer only when told to."""
    with ExperienceBuffer.open(tmp_path, _settings()) as opened:
        opened.follower.close()
        yield opened


def _experiences(rows: Vectors, **fields: object) -> list[Experience]:
    return [Experience(confidence=0.5, visual=row.tobytes(), **fields) for row in rows]  # type: ignore[arg-type]


def _build(buffer: ExperienceBuffer, folder: Path, generation: int) -> None:
    buffer.export()
    rebuild(request(folder, generation, index_type="flat"), FolderPointer(folder / "pointer"))
    buffer.follower.follow()


def test_euclidean_search_agrees_before_and_after_a_rebuild(tmp_path: Path) -> None:
    """Scores are negative distances, whether the row is in the delta or in main."""
    rows = (3 * np.random.default_rng(0).standard_normal((40, 4))).astype(np.float32)
    settings = _settings(embedding=EmbeddingSettings(dimension=4, metric="euclidean"))
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        buffer.follower.close()
        buffer.append(_experiences(rows))
        fresh = buffer.search(rows[:5] + 0.1, 3)
        _build(buffer, tmp_path, 1)
        indexed = buffer.search(rows[:5] + 0.1, 3)

    distances = np.linalg.norm((rows[:5] + 0.1)[:, None].astype(np.float64) - rows[None], axis=2)
    np.testing.assert_array_equal(fresh.ids, np.argsort(distances, axis=1)[:, :3] + 1)
    np.testing.assert_allclose(fresh.scores, -np.sort(distances, axis=1)[:, :3], atol=1e-4)
    np.testing.assert_array_equal(indexed.ids, fresh.ids)
    np.testing.assert_allclose(indexed.scores, fresh.scores, atol=1e-4)
    assert indexed.generation == 1


def test_the_oldest_leave_when_the_capacity_is_used_up(tmp_path: Path) -> None:
    """First in, first out; also within one request that is larger than the buffer."""
    with ExperienceBuffer.open(tmp_path, _settings(buffer=BufferSettings(capacity=3))) as buffer:
        assert buffer.append(_experiences(VECTORS[:5])).ids == [1, 2, 3, 4, 5]

        assert [item.id for item in buffer.page(0, 10)[0]] == [3, 4, 5]
        with pytest.raises(EvictedExperienceError):
            buffer.get(2)


def test_pages_join_up(buffer: ExperienceBuffer) -> None:
    """Following the cursor gives every experience once."""
    buffer.append(_experiences(VECTORS[:7]))

    first, cursor = buffer.page(0, 3)
    second, following = buffer.page(cursor or 0, 3)
    third, last = buffer.page(following or 0, 3)

    assert [[item.id for item in page] for page in (first, second, third)] == [[1, 2, 3], [4, 5, 6], [7]]
    assert last is None


def test_a_filter_gives_k_results_however_selective_it_is(buffer: ExperienceBuffer) -> None:
    """The five of sixty that match are all found, nearest first."""
    for number, row in enumerate(VECTORS):
        buffer.append(_experiences(row[None], metadata={"tag": "rare" if number % 12 == 0 else "common", "n": number}))

    found = buffer.search(VECTORS[:1], 5, wanted={"tag": "rare"})
    either = buffer.search(VECTORS[:1], 3, wanted={"n": [7, 8, 999]})

    scores = VECTORS[::12] @ VECTORS[0]
    assert found.ids[0].tolist() == [int(12 * place + 1) for place in np.argsort(-scores)]
    assert sorted(either.ids[0].tolist()) == [-1, 8, 9]


def test_retrievals_are_counted_apart_and_survive_a_restart(tmp_path: Path) -> None:
    """By search and by sample; success rate is successes over retrievals."""
    with ExperienceBuffer.open(tmp_path, _settings()) as buffer:
        buffer.append(_experiences(VECTORS[:1]))
        for _ in range(4):
            buffer.search(VECTORS[:1], 1)
        buffer.sample(3)
        buffer.report_outcomes([(1, True)])

    with ExperienceBuffer.open(tmp_path, _settings()) as buffer:
        found = buffer.get(1)

    assert (found.retrieval_count, found.sample_count, found.success_count, found.success_rate) == (4, 3, 1, 0.25)


def test_appends_wait_before_the_delta_would_hide_anything(tmp_path: Path) -> None:
    """429 at the cap; what was accepted is all found; a rebuild makes room again."""
    with ExperienceBuffer.open(tmp_path, _settings(index=IndexSettings(delta_rows_max=10))) as buffer:
        buffer.follower.close()
        buffer.append(_experiences(VECTORS[:8]))
        with pytest.raises(BacklogError):
            buffer.append(_experiences(VECTORS[8:12]))
        assert buffer.search(VECTORS[:8], 1).ids[:, 0].tolist() == list(range(1, 9))

        _build(buffer, tmp_path, 1)

        assert buffer.append(_experiences(VECTORS[8:12])).ids == [9, 10, 11, 12]


def test_a_retry_with_the_same_client_id_adds_nothing(tmp_path: Path) -> None:
    """Also after a restart; with another content it is a conflict."""
    first = Experience(confidence=0.5, visual=VECTORS[0].tobytes(), client_id="a")
    with ExperienceBuffer.open(tmp_path, _settings()) as buffer:
        assert buffer.append([first]).ids == [1]
    with ExperienceBuffer.open(tmp_path, _settings()) as buffer:
        assert buffer.append([first]).ids == [1]
        with pytest.raises(ConflictError, match="client_id a"):
            buffer.append([msgspec.structs.replace(first, confidence=0.6)])
        assert buffer.status().size == 1


@pytest.mark.parametrize("gone", ["evicted", "removed"])
def test_a_retry_gets_the_first_answer_after_the_experience_has_gone(tmp_path: Path, gone: str) -> None:
    """A late retry must not bring back what has left, also after a restart; another content is still a conflict."""
    first = Experience(confidence=0.5, visual=VECTORS[0].tobytes(), client_id="a")
    settings = _settings(buffer=BufferSettings(capacity=3))
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        assert buffer.append([first]).ids == [1]
        if gone == "removed":
            buffer.remove(1)
        else:
            buffer.append(_experiences(VECTORS[1:4]))
        size = buffer.status().size
        assert buffer.append([first]).ids == [1]
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        assert buffer.append([first]).ids == [1]
        assert buffer.status().size == size
        with pytest.raises(EvictedExperienceError):
            buffer.get(1)
        with pytest.raises(ConflictError, match="client_id a"):
            buffer.append([msgspec.structs.replace(first, confidence=0.6)])


def test_a_full_disk_refuses_appends_and_heals(buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """507 for what needs space, reads and removals go on, and nothing of the refused write is there."""
    buffer.append(_experiences(VECTORS[:3]))
    commit = buffer.store.commit

    def full(group: Group) -> None:
        if any(isinstance(operation, Append) for operation in group.operations):
            raise StorageFullError("the disk is full")
        commit(group)

    with monkeypatch.context() as patched:
        patched.setattr(buffer.store, "commit", full)
        with pytest.raises(StorageFullError):
            buffer.append(_experiences(VECTORS[3:4]))
        buffer.remove(1)
        assert buffer.search(VECTORS[1:2], 1).ids[0, 0] == 2

    assert buffer.append(_experiences(VECTORS[3:4])).ids == [4]
    assert [item.id for item in buffer.page(0, 10)[0]] == [2, 3, 4]


def test_a_failed_commit_latches_writes_and_leaves_reads(
    buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After durability was in doubt no write is taken; searches, samples and the status go on."""
    buffer.append(_experiences(VECTORS[:3]))

    def broken(_: Group) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(buffer.store, "commit", broken)
    with pytest.raises(OutcomeUnknownError):
        buffer.append(_experiences(VECTORS[3:4]))
    monkeypatch.undo()

    with pytest.raises(OutcomeUnknownError, match="restarted"):
        buffer.append(_experiences(VECTORS[3:4]))
    assert buffer.search(VECTORS[:1], 1).ids[0, 0] == 1
    assert len(buffer.sample(4).ids) == 4
    assert not buffer.status().store.writable


class _HeldCommits:
    """Lets commits of a buffer through one by one; all of them once it is closed."""

    def __init__(self, buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._commit = buffer.store.commit
        self._entered: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._go: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._open = False
        monkeypatch.setattr(buffer.store, "commit", self._held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open = True
        self._go.put(None)

    def wait(self) -> None:
        """Wait until a commit has begun."""
        self._entered.get(timeout=30)

    def go_on(self) -> None:
        """Let one commit through."""
        self._go.put(None)

    def _held(self, group: Group) -> None:
        if not self._open:
            self._entered.put(None)
            self._go.get()
        self._commit(group)


def test_a_refusal_is_answered_only_when_what_it_refers_to_is_durable(
    buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two removals in one group the second is refused by the first: not before that is committed."""
    buffer.append(_experiences(VECTORS[:1]))
    with _HeldCommits(buffer, monkeypatch) as commits:
        busy = buffer.writer.submit(lambda plan: plan.report_outcomes([(1, True)], None))
        commits.wait()
        first, second = (buffer.writer.submit(lambda plan: plan.remove(1)) for _ in range(2))
        commits.go_on()
        commits.wait()
        assert busy.result()
        assert not second.done(), "the removal that it refers to is not durable yet"
        assert buffer.get(1).id == 1
    assert first.result() > 0
    with pytest.raises(EvictedExperienceError):
        second.result()


def test_requests_refused_by_a_group_that_found_no_space_are_planned_anew(
    buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The append with the same client_id that did not fit is no reason for a conflict."""
    commit = buffer.store.commit

    def full(group: Group) -> None:
        if any(isinstance(operation, Append) for operation in group.operations):
            raise StorageFullError("the disk is full")
        commit(group)

    monkeypatch.setattr(buffer.store, "commit", full)
    one, two = (
        Experience(confidence=confidence, visual=VECTORS[0].tobytes(), client_id="a") for confidence in (0.1, 0.2)
    )
    with _HeldCommits(buffer, monkeypatch) as commits:
        busy = buffer.append_soon(_experiences(VECTORS[:1]))
        commits.wait()
        both = [buffer.append_soon([experience]) for experience in (one, two)]
    for future in (busy, *both):
        with pytest.raises(StorageFullError):
            future.result()


def test_a_bug_in_one_request_does_not_harm_the_others(buffer: ExperienceBuffer) -> None:
    """The request that cannot be planned fails alone, and nothing of it is kept."""
    good = buffer.append_soon(_experiences(VECTORS[:1]))

    def half_done(plan: Plan) -> None:
        plan.append(AppendRequest([], []))
        plan.group.apply(Append(plan.next_sequence, plan.group.header.next_id, 0.0, 0.1, None, b"", b"", b""))
        raise ZeroDivisionError

    bad = buffer.writer.submit(half_done)
    after = buffer.append_soon(_experiences(VECTORS[1:2]))

    assert good.result().ids == [1]
    with pytest.raises(ZeroDivisionError):
        bad.result()
    assert after.result().ids == [2]
    assert buffer.status().size == 2


def test_a_generation_beyond_the_memory_budget_is_refused(tmp_path: Path) -> None:
    """What is served stays, and the status says how much would have been needed."""
    with ExperienceBuffer.open(tmp_path, _settings(index=IndexSettings(memory_bytes_max=1))) as buffer:
        buffer.follower.close()
        buffer.append(_experiences(VECTORS[:5]))
        _build(buffer, tmp_path, 1)

        refused = buffer.status().refused

        assert refused is not None
        assert "limit of 1 bytes" in refused.reason
        assert buffer.search(VECTORS[:5], 1).ids[:, 0].tolist() == [1, 2, 3, 4, 5]


def test_a_generation_of_another_store_is_refused(tmp_path: Path, buffer: ExperienceBuffer) -> None:
    """One that holds content from beyond this store's sequence cannot belong to it."""
    with ExperienceBuffer.open(tmp_path / "other", _settings()) as other:
        other.follower.close()
        other.append(_experiences(VECTORS))
        _build(other, tmp_path / "other", 1)
    buffer.append(_experiences(VECTORS[:2]))
    for folder in ("indexes", "pointer"):
        shutil.copytree(tmp_path / "other" / folder, tmp_path / folder, dirs_exist_ok=True)

    buffer.follower.follow()

    refused = buffer.status().refused
    assert refused is not None
    assert "do not belong together" in refused.reason


def test_a_damaged_generation_at_the_start_is_replaced_by_the_one_before(tmp_path: Path) -> None:
    """Everything is found all the same, and the status says why the pointer is not followed."""
    with ExperienceBuffer.open(tmp_path, _settings()) as buffer:
        buffer.follower.close()
        buffer.append(_experiences(VECTORS[:30]))
        _build(buffer, tmp_path, 1)
        buffer.append(_experiences(VECTORS[30:]))
        buffer.export()
        rebuild(request(tmp_path, 2), FolderPointer(tmp_path / "pointer"))
    index = tmp_path / "indexes" / generation_name(2) / INDEX_FILE
    index.write_bytes(index.read_bytes()[:-1] + b"\0")

    with ExperienceBuffer.open(tmp_path, _settings()) as buffer:
        status = buffer.status()
        found = buffer.search(VECTORS, 1).ids[:, 0].tolist()

    assert (status.generation, status.index_rows, status.delta_rows) == (1, 30, 30)
    assert status.refused is not None
    assert found == list(range(1, 61))


def test_what_leaves_during_a_switch_stays_hidden(
    tmp_path: Path, buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal between the preparation of a generation and its switch is not undone by it."""
    buffer.append(_experiences(VECTORS[:10]))
    prepare = buffer.follower._prepare

    def prepare_then_remove(pointer: object) -> object:
        coming = prepare(pointer)  # type: ignore[arg-type] # passed through
        buffer.remove(3)
        return coming

    monkeypatch.setattr(buffer.follower, "_prepare", prepare_then_remove)
    _build(buffer, tmp_path, 1)

    assert buffer.status().generation == 1
    assert 3 not in buffer.search(VECTORS[2:3], 10).ids[0].tolist()
