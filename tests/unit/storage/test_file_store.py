"""What is particular to the file adapter: bounded disk, a full disk, snapshots that fail, what is live where."""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from pathlib import Path
from random import Random

import msgspec
import pytest

from buffer_service.errors import StorageFullError
from buffer_service.storage.ballast import BALLAST_BYTES
from buffer_service.storage.file_store import FileStore
from buffer_service.storage.log import segment_name, segment_of
from buffer_service.storage.operations import Append, Operation, Remove, ReportOutcomes, SetPriorities
from buffer_service.storage.snapshot import snapshot_name
from tests.helpers.simulated_fs import FOLDER, SimulatedFileSystem
from tests.helpers.storage_invariants import check_recovered
from tests.helpers.storage_model import Model, append_operation, group_of, random_operations
from tests.helpers.storage_simulation import SMALL, Later, open_simulated


def commit(store: FileStore, model: Model, operations: list[Operation]) -> None:
    """Commit and publish, and follow with the model."""
    group = group_of(store, operations)
    store.commit(group)
    group.publish()
    for operation in operations:
        model.apply(operation)


def without_names(operation: Operation) -> Operation:
    """Return the operation without a request or client id, for remembered answers add to what is live."""
    match operation:
        case ReportOutcomes():
            return msgspec.structs.replace(operation, request_id=None)
        case Append():
            return msgspec.structs.replace(operation, client_id=None)
        case _:
            return operation


def fill_until_refused(store: FileStore, model: Model, random: Random) -> None:
    """Append until the disk is full."""
    with contextlib.suppress(StorageFullError):
        for _ in range(1000):
            commit(store, model, [append_operation(random, model, payload_bytes=900)])


@pytest.mark.parametrize("keep_oldest", [False, True], ids=["oldest-leaves", "oldest-stays"])
def test_the_disk_stays_bounded_under_endless_churn(*, keep_oldest: bool) -> None:
    """However much is appended and dropped, the files stay below a fixed multiple of the limits."""
    system, background = SimulatedFileSystem(), Later()
    store, model, random = open_simulated(system, background), Model(), Random(0)
    sizes = []
    for _ in range(1500):
        operations = random_operations(random, model, 4, keep_oldest=keep_oldest)
        commit(store, model, [without_names(operation) for operation in operations])
        background.work()
        sizes.append(sum(len(file.content) for file in system.files.values()))
    live_bytes = sum(len(kept.payload) + len(kept.vector) for kept in model.experiences.values())
    assert max(sizes[300:]) <= 1.2 * max(sizes[:300])
    assert max(sizes) <= 4 * live_bytes + 16 * SMALL.segment_bytes
    check_recovered(open_simulated(system), model)


def test_the_log_of_mere_updates_stays_bounded() -> None:
    """Operations that add no record are cut off behind the snapshots, too."""
    system, background = SimulatedFileSystem(), Later()
    store, model, random = open_simulated(system, background), Model(), Random(0)
    commit(store, model, [append_operation(random, model)])
    for _ in range(1000):
        commit(store, model, [SetPriorities(model.sequence + 1, [(1, random.random())])])
        background.work()
    assert sum(len(file.content) for file in system.files.values()) <= 16 * SMALL.segment_bytes
    check_recovered(open_simulated(system), model)


def test_segments_know_how_many_of_their_records_are_live() -> None:
    """What compaction goes by agrees with the table after every commit, and after recovery."""
    system, background = SimulatedFileSystem(), Later()
    store, model, random = open_simulated(system, background), Model(), Random(4)
    for turn in range(200):
        commit(store, model, random_operations(random, model, 4, keep_oldest=turn % 40 < 20))
        background.work()
        if turn % 50 == 49:
            store = open_simulated(system, background)
        counts = Counter(segment_of(row.place) for row in store.table.rows())
        assert {number: segment.live_count for number, segment in store._log.segments.items()} == {
            number: counts[number] for number in store._log.segments
        }


def test_a_full_disk_refuses_appends_takes_removals_and_heals() -> None:
    """The ballast makes room for what frees space; refused groups leave nothing; space that returns is used at once."""
    system = SimulatedFileSystem()
    system.capacity_bytes = BALLAST_BYTES + 6000
    store, model, random = open_simulated(system), Model(), Random(0)
    fill_until_refused(store, model, random)
    check_recovered(store, model)
    large = msgspec.structs.replace(append_operation(random, model), payload=bytes(3000))
    with pytest.raises(StorageFullError):
        commit(store, model, [large])
    commit(store, model, [Remove(model.sequence + 1, min(model.experiences))])
    check_recovered(open_simulated(system.after_power_loss(0)), model)
    system.capacity_bytes += 1 << 20
    for _ in range(100):
        commit(store, model, [append_operation(random, model, payload_bytes=200)])
    assert system.files[FOLDER / "ballast"].allocated == BALLAST_BYTES
    check_recovered(open_simulated(system), model)


def test_a_snapshot_that_finds_no_space_is_given_up_and_the_log_kept() -> None:
    """Commits go on, the unfinished file is gone, and a later snapshot succeeds."""
    system, background = SimulatedFileSystem(), Later()
    store, model, random = open_simulated(system, background), Model(), Random(0)

    def fail(_step: int, kind: str, path: Path) -> int | None:
        return errno.ENOSPC if kind == "write" and path.name.startswith("snapshot") else None

    system.fail = fail
    for _ in range(40):
        commit(store, model, random_operations(random, model, 3))
        background.work()
    assert not [name for name in system.names(FOLDER) if name.startswith("snapshot")]
    check_recovered(open_simulated(system.after_power_loss(1)), model)
    system.fail = lambda _step, _kind, _path: None
    for _ in range(40):
        commit(store, model, random_operations(random, model, 3))
        background.work()
    assert [name for name in system.names(FOLDER) if name.startswith("snapshot")]
    check_recovered(open_simulated(system.after_power_loss(2)), model)


def test_temporary_files_are_removed_at_the_start() -> None:
    """What a crash left half written has no name of its own yet."""
    system = SimulatedFileSystem()
    open_simulated(system)
    system.create(FOLDER / "snapshot-00000000000000000007.bin.tmp")
    open_simulated(system)
    assert not [name for name in system.names(FOLDER) if name.endswith(".tmp")]


def test_files_that_a_crash_left_behind_go_with_the_next_cut() -> None:
    """Segments and snapshots that nothing needs any more, and what was cut off such segments, do not pile up."""
    system, background = SimulatedFileSystem(), Later()
    store, model, random = open_simulated(system, background), Model(), Random(0)
    for _ in range(60):
        commit(store, model, random_operations(random, model, 4))
        background.work()
    names = (segment_name(1), f"{segment_name(1)}.64.torn", snapshot_name(1))
    for name in names:
        assert name not in system.names(FOLDER)
        system.create(FOLDER / name)
    store = open_simulated(system, background)
    for _ in range(60):
        commit(store, model, random_operations(random, model, 4))
        background.work()
    assert not set(names) & set(system.names(FOLDER))
    check_recovered(open_simulated(system), model)
