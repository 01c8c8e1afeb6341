"""Experiences read many at once are what they are one by one, in the order asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from buffer_service.core import Experience, ExperienceBuffer, reading
from buffer_service.core.plan import PriorityUpdate
from buffer_service.settings import EmbeddingSettings, PersistenceSettings, RebuildSettings, SamplingSettings, Settings
from buffer_service.storage.rows import Row
from tests.helpers.vectors import unit_vectors

ROWS = 12
REMOVED = 4
NOW_S = 1_000_000.0


@pytest.fixture(params=["file", "lmdb"])
def buffer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ExperienceBuffer]:
    """Experiences of which no two are alike, and one that was removed."""
    clock = iter(range(int(NOW_S), int(NOW_S) + 1_000_000, 3600))
    chosen = Settings(
        embedding=EmbeddingSettings(dimension=4),
        persistence=PersistenceSettings(backend=request.param),
        rebuild=RebuildSettings(mode="off"),
        sampling=SamplingSettings(alpha=0.6),
    )
    with ExperienceBuffer(tmp_path, chosen, lambda: float(next(clock))) as opened:
        for number, row in enumerate(unit_vectors(ROWS, 4)):
            named = f"client-{number}" if number % 2 else None
            content = {"question": f"question {number}"} if number % 3 else {"metadata": {"number": number}}
            opened.append([Experience(confidence=number / ROWS, visual=row.tobytes(), client_id=named, **content)])
        opened.update_priorities([PriorityUpdate(2, 5.0), PriorityUpdate(7, 0.0)])
        opened.report_outcomes([(2, True), (2, False), (9, True)])
        opened.remove(REMOVED)
        yield opened


def test_many_at_once_are_what_the_table_and_the_store_have(buffer: ExperienceBuffer) -> None:
    """In the order asked for, an id as often as it is named, None for what has gone or never was."""
    ids = [9, 2, REMOVED, 2, 7, 1, ROWS, ROWS + 1]

    found = buffer.get_many(ids)

    assert [None if item is None else item.id for item in found] == [9, 2, None, 2, 7, 1, ROWS, None]
    for item in found:
        if item is None:
            continue
        number, row = item.id - 1, buffer.store.table.row(item.id)
        assert row is not None
        assert item.confidence == number / ROWS
        assert item.question == (f"question {number}" if number % 3 else None)
        assert item.metadata == (None if number % 3 else {"number": number})
        assert item.vector is None
        assert _cells(row) == {name: getattr(item, name) for name in _cells(row)}


def test_experiences_packed_are_what_many_are(buffer: ExperienceBuffer) -> None:
    """In the order asked for, those that are live, without the fields that have no value."""
    table = buffer.store.table
    table.search_retrievals[table.slots_of(np.array([2, 9], np.int64))] = 4, 1
    ids = np.array([9, 2, REMOVED, 2, 7, 1, ROWS, ROWS + 1], np.int64)

    found, packed = reading.packed(buffer.store, buffer.settings.sampling, ids, NOW_S)
    many = [item for item in reading.many(buffer.store, buffer.settings.sampling, ids.tolist(), NOW_S) if item]

    assert found.tolist() == [experience not in {REMOVED, ROWS + 1} for experience in ids.tolist()]
    expected = [
        {name: value for name, value in msgspec.structs.asdict(item).items() if value is not None} for item in many
    ]
    assert msgspec.msgpack.decode(packed) == expected
    assert {item["id"]: item["success_rate"] for item in expected if "success_rate" in item} == {2: 0.25, 9: 1.0}


def test_what_leaves_while_it_is_read_is_left_out(buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row was there, its payload is not any more."""
    payloads = buffer.store.payloads
    ids = [2, 3, 5]

    def removed_meanwhile(wanted: Sequence[int]) -> list[bytes | None]:
        if 3 in buffer.store.table.slots:
            buffer.remove(3)
        return payloads(wanted)

    monkeypatch.setattr(buffer.store, "payloads", removed_meanwhile)
    found, packed = reading.packed(buffer.store, buffer.settings.sampling, np.array(ids, np.int64), NOW_S)

    assert found.tolist() == [True, False, True]
    assert [(item["id"], item.get("client_id")) for item in msgspec.msgpack.decode(packed)] == [
        (2, "client-1"),
        (5, None),
    ]


class Interrupted(np.ndarray):
    """A column of which a read calls ``meanwhile`` before it returns."""

    meanwhile: Callable[[], None]

    def __getitem__(self, places: Any) -> Any:  # noqa: ANN401 - as numpy declares it
        read = np.array(self, copy=True)[places]
        self.meanwhile()
        return read


def test_what_is_read_of_an_experience_is_of_one_moment(buffer: ExperienceBuffer) -> None:
    """An update that comes while its columns are read changes all of them or none."""
    table = buffer.store.table
    before = buffer.get(9)
    with ThreadPoolExecutor(1) as other:
        updates: list[Future[Any]] = []

        def update() -> None:
            if not updates:
                updates.append(other.submit(buffer.update_priorities, [PriorityUpdate(9, 3.0)]))
            wait(updates, 0.2)  # without the lock it ends at once, with it only after the reader

        table.priority = table.priority.view(Interrupted)
        table.priority.meanwhile = update
        (read,) = buffer.get_many([9])
        after = updates[0].result() and buffer.get_many([9])[0]

    assert read is not None
    assert after is not None
    assert (read.priority, read.sequence) == (before.priority, before.sequence)
    assert after.priority == 3.0
    assert after.sequence > before.sequence


@pytest.mark.parametrize("step", ["following", "publish"])
def test_a_write_is_seen_by_pages_and_searches_at_once(
    buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """What a page does not show any more, no search finds that begins afterwards, at any step after the commit."""
    take_step = getattr(buffer.serving, step)
    seen: list[Future[tuple[set[int], set[int]]]] = []

    def read() -> tuple[set[int], set[int]]:
        page, _ = buffer.page(0, ROWS)
        return {item.id for item in page}, set(buffer.search(unit_vectors(ROWS, 4), ROWS).ids.ravel().tolist())

    with ThreadPoolExecutor(1) as other:

        def take_step_late(*given: Any) -> Any:  # noqa: ANN401 - whatever the step takes and returns
            seen.append(other.submit(read))
            wait(seen, 0.2)  # until the reader is through, or held back
            return take_step(*given)

        monkeypatch.setattr(buffer.serving, step, take_step_late)
        buffer.remove(9)
        paged, found = seen[0].result()

    assert found - {-1} == paged
    assert 9 not in {item.id for item in buffer.page(0, ROWS)[0]}


def test_the_weight_is_that_of_the_moment_of_reading(buffer: ExperienceBuffer) -> None:
    """Each reading is an hour later, and age counts."""
    earlier, later = buffer.get_many([2, 9]), buffer.get_many([2, 9])

    for before, after in zip(earlier, later, strict=True):
        assert before is not None
        assert after is not None
        assert after.weight > before.weight


def test_vectors_come_from_the_index_or_the_store(buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the view does not have yet, or any more, from the store; none for what was removed or never was."""
    rows = unit_vectors(ROWS, 4)
    ids = np.array([9, ROWS + 1, 2, 1, ROWS], np.int64)
    view = buffer.serving.view
    for seen in (view, replace(view, delta_rows=5), replace(view, delta_rows=0)):
        monkeypatch.setattr(buffer.serving, "view", seen)
        found, vectors = reading.vectors(buffer, ids)
        assert found.tolist() == [True, False, True, True, True]
        np.testing.assert_allclose(vectors[found], rows[ids[found] - 1], atol=1e-6)


def test_nothing_is_read_of_an_empty_buffer(tmp_path: Path) -> None:
    """Nor does it fail."""
    chosen = Settings(embedding=EmbeddingSettings(dimension=4), rebuild=RebuildSettings(mode="off"))
    with ExperienceBuffer(tmp_path, chosen) as buffer:
        assert buffer.get_many([1, 2]) == [None, None]
        found, packed = buffer.get_packed(np.array([1, 2], np.int64))
        assert (found.tolist(), msgspec.msgpack.decode(packed)) == ([False, False], [])


def _cells(row: Row) -> dict[str, object]:
    """Return what a row of the table says of an experience, by the names of the experience's fields."""
    cells = asdict(row)
    renamed = {
        "sequence": "version",
        "retrieval_count": "search_retrievals",
        "sample_count": "sample_retrievals",
        "outcome_count": "outcomes",
        "success_count": "successes",
    }
    same = ("id", "created_at", "priority", "client_id")
    return {name: cells[name] for name in same} | {name: cells[column] for name, column in renamed.items()}
