"""What both adapters promise, on real files."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest

from buffer_service.errors import IncompatibleStoreError, StoreLockedError
from buffer_service.storage.adapters import open_store
from buffer_service.storage.base import Shape
from buffer_service.storage.group import Group
from buffer_service.storage.operations import Append, Operation, Remove, ReportOutcomes
from buffer_service.storage.table import REMEMBERED_MAX
from tests.helpers.storage_invariants import check_recovered
from tests.helpers.storage_model import SHAPE, Model, append_operation, group_of, model_of, random_operations
from tests.helpers.storage_open import BACKENDS, MAP_SIZE_BYTES, fill, opened
from tests.helpers.storage_process import check_left_behind, kill_after, start_writer

KILLS = 4

both = pytest.mark.parametrize("backend", BACKENDS)


@both
def test_what_was_committed_is_there_after_a_restart(backend: str, tmp_path: Path) -> None:
    """Rows, payloads, vectors, header and remembered requests come back exactly."""
    folder = tmp_path / "new" / "store"
    with opened(backend, folder) as store:
        model = fill(store, 60)
        assert model_of(store) == model
    with opened(backend, folder) as store:
        check_recovered(store, model)


@both
def test_an_open_store_is_refused_to_another_process_by_name(backend: str, tmp_path: Path) -> None:
    """The message names the process that holds the store, and the store is free once the holder is dead."""
    writer = start_writer(backend, tmp_path, 1)
    assert writer.stdout is not None
    writer.stdout.readline()
    with pytest.raises(StoreLockedError, match=f"process {writer.pid} on "):
        open_store(backend, tmp_path, SHAPE, MAP_SIZE_BYTES)
    kill_after(writer, 1)
    open_store(backend, tmp_path, SHAPE, MAP_SIZE_BYTES).close()


@both
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a PID namespace")
def test_an_open_store_is_refused_to_the_same_pid_in_another_namespace(backend: str, tmp_path: Path) -> None:
    """Two containers in which the service is process 1 cannot both write."""
    namespace = ("unshare", "--pid", "--fork", "--kill-child")
    first = start_writer(backend, tmp_path, 1, *namespace)
    assert first.stdout is not None
    first.stdout.readline()
    second = start_writer(backend, tmp_path, 1, *namespace)
    _, errors = second.communicate()
    kill_after(first, 1)
    assert second.returncode != 0
    assert "StoreLockedError" in errors
    assert "is in use by process 1 on " in errors


@both
def test_kill_minus_nine_loses_no_acknowledged_group(backend: str, tmp_path: Path) -> None:
    """A killed process leaves what it acknowledged, and at most the one group in doubt more; again and again."""
    for seed in range(KILLS):
        folder = tmp_path / str(seed)
        lines = kill_after(start_writer(backend, folder, seed), 5 + 17 * seed)
        check_left_behind(backend, folder, seed, lines)


@both
@pytest.mark.parametrize("shape", [Shape(8, "cosine"), Shape(4, "euclidean")], ids=str)
def test_a_store_of_another_shape_is_refused_with_both_shapes(backend: str, shape: Shape, tmp_path: Path) -> None:
    """The sentence says what the store is for and what was asked for; the store is as it was."""
    open_store(backend, tmp_path, SHAPE, MAP_SIZE_BYTES).close()
    with pytest.raises(IncompatibleStoreError, match="dimension 4 and metric cosine, the settings ask") as refusal:
        open_store(backend, tmp_path, shape, MAP_SIZE_BYTES)
    assert f"dimension {shape.dimension} and metric {shape.metric}" in str(refusal.value)
    open_store(backend, tmp_path, SHAPE, MAP_SIZE_BYTES).close()


@pytest.mark.parametrize(("first", "second"), [("file", "lmdb"), ("lmdb", "file")])
def test_a_folder_of_the_other_backend_is_refused(first: str, second: str, tmp_path: Path) -> None:
    """Changing the backend in the settings never looks like an empty store."""
    open_store(first, tmp_path, SHAPE, MAP_SIZE_BYTES).close()
    with pytest.raises(IncompatibleStoreError, match=f"backend={first}"):
        open_store(second, tmp_path, SHAPE, MAP_SIZE_BYTES)


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    """Only the two adapters have names."""
    with pytest.raises(ValueError, match="file and lmdb are known"):
        open_store("paper", tmp_path, SHAPE, MAP_SIZE_BYTES)


@both
def test_reads_leave_out_what_is_not_live(backend: str, tmp_path: Path) -> None:
    """Payloads are None and vectors are left out for ids that never were or are gone; the order is the caller's."""
    random, model = Random(0), Model()
    with opened(backend, tmp_path) as store:
        for _ in range(5):
            operation = append_operation(random, model)
            model.apply(operation)
            group = group_of(store, [operation])
            store.commit(group)
            group.publish()
        removal = Remove(model.sequence + 1, 2)
        model.apply(removal)
        group = group_of(store, [removal])
        store.commit(group)
        group.publish()
        assert store.payloads([5, 2, 99, 1]) == [model.experiences[5].payload, None, None, model.experiences[1].payload]
        ids, vectors = store.vectors(np.array([5, 2, 99, 1], np.int64))
        assert ids.tolist() == [5, 1]
        assert [vector.tobytes() for vector in vectors] == [model.experiences[5].vector, model.experiences[1].vector]
        ids, vectors = store.vectors(np.array([], np.int64))
        assert ids.shape == (0,)
        assert vectors.shape == (0, SHAPE.dimension)


@both
def test_the_oldest_answers_are_forgotten_beyond_the_bound(backend: str, tmp_path: Path) -> None:
    """As many answers are remembered after a restart as before it, the newest ones."""
    count = REMEMBERED_MAX + 7
    with opened(backend, tmp_path) as store:
        for first in range(1, count + 1, 2_000):
            group = Group.on(store.table)
            for sequence in range(first, min(first + 2_000, count + 1)):
                group.apply(ReportOutcomes(sequence, f"request-{sequence}", b"f", [], b"a"))
            store.commit(group)
            group.publish()
        remembered = list(store.table.requests)
    assert remembered[0] == "request-8"
    with opened(backend, tmp_path) as store:
        assert list(store.table.requests) == remembered


@both
def test_client_ids_of_what_has_gone_are_remembered_up_to_the_bound(backend: str, tmp_path: Path) -> None:
    """Also those of experiences that were dropped by the group that appended them, and after a restart."""
    count = REMEMBERED_MAX + 5
    with opened(backend, tmp_path) as store:
        for first in range(1, count + 1, 2_000):
            group = Group.on(store.table)
            for experience in range(first, min(first + 2_000, count + 1)):
                sequence = group.header.sequence + 1
                append = append_operation(Random(0), Model(sequence - 1, experience))
                group.apply(msgspec.structs.replace(append, client_id=f"client-{experience}"))
                group.apply(Remove(sequence + 1, experience))
            store.commit(group)
            group.publish()
        remembered = list(store.table.retired)
    assert remembered[0] == "client-6"
    with opened(backend, tmp_path) as store:
        assert list(store.table.retired) == remembered
        assert Group.on(store.table).appended_before("client-5") is None
        before = Group.on(store.table).appended_before("client-6")
        assert before is not None
        assert before[0] == 6


@both
def test_payloads_of_any_size_are_read_whole(backend: str, tmp_path: Path) -> None:
    """Large ones among small ones and the other way round, before and after they are opened again."""
    sizes = [3, 200_000, 0, 70_000, 5, 5, 5, 5, 5, 5, 5, 300_000, 1]
    wanted = [bytes([place]) * size for place, size in enumerate(sizes)]
    model, random = Model(), Random(0)
    ids = range(1, len(sizes) + 1)
    with opened(backend, tmp_path) as store:
        for payload in wanted:
            append = msgspec.structs.replace(append_operation(random, model), payload=payload)
            group = group_of(store, [append])
            store.commit(group)
            group.publish()
            model.apply(append)
            assert store.payloads(ids[: append.id]) == wanted[: append.id]
    with opened(backend, tmp_path) as store:
        assert store.payloads([*ids, 99]) == [*wanted, None]


@both
def test_a_group_without_operations_changes_nothing(backend: str, tmp_path: Path) -> None:
    """There is nothing to make durable."""
    with opened(backend, tmp_path) as store:
        model = fill(store, 3)
        size = store.size_bytes()
        store.commit(Group.on(store.table))
        assert store.size_bytes() == size
        assert model_of(store) == model


@both
def test_readers_see_whole_records_while_the_writer_goes_on(backend: str, tmp_path: Path) -> None:
    """What a reader gets for an id is its own or nothing, whatever is appended, evicted and moved meanwhile."""
    wrong: list[int] = []
    done = threading.Event()
    with opened(backend, tmp_path) as store:

        def read() -> None:
            while not done.is_set():
                ids = store.table.live_ids()
                payloads = store.payloads(ids.tolist())
                found, vectors = store.vectors(ids)
                pairs = zip(ids.tolist(), payloads, strict=True)
                wrong.extend(id_ for id_, payload in pairs if payload not in (None, b"payload %d" % id_))
                wrong.extend(found[vectors[:, 0] != found].tolist())

        reader = threading.Thread(target=read)
        reader.start()
        model, random = Model(), Random(0)
        for _ in range(300):
            operations = [_marked(operation) for operation in random_operations(random, model, 4, keep_oldest=True)]
            group = group_of(store, operations)
            store.commit(group)
            group.publish()
            for operation in operations:
                model.apply(operation)
        done.set()
        reader.join()
    assert wrong == []


def _marked(operation: Operation) -> Operation:
    """Return an append with its id in payload and vector."""
    if not isinstance(operation, Append):
        return operation
    vector = np.full(SHAPE.dimension, operation.id, "<f4").tobytes()
    return msgspec.structs.replace(operation, payload=b"payload %d" % operation.id, vector=vector)


def test_both_adapters_hold_the_same_for_the_same_operations(tmp_path: Path) -> None:
    """Rows, header and remembered requests are equal, before and after a restart."""
    with opened("file", tmp_path / "file") as one, opened("lmdb", tmp_path / "lmdb") as other:
        fill(one, 50)
        fill(other, 50)
        assert list(one.table.rows()) == list(other.table.rows())
    with opened("file", tmp_path / "file") as one, opened("lmdb", tmp_path / "lmdb") as other:
        assert list(one.table.rows()) == list(other.table.rows())
        assert one.table.header == other.table.header
        assert list(one.table.requests.items()) == list(other.table.requests.items())
        assert model_of(one) == model_of(other)
