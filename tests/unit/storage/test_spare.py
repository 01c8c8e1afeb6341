"""The next segment of the log is made ahead while the log is written to, and is in nobody's way."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import msgspec
import pytest

from buffer_service.errors import CorruptStoreError, StorageFullError
from buffer_service.storage.file_store import FileStore
from buffer_service.storage.fs import TEMPORARY_SUFFIX, RealFileSystem
from buffer_service.storage.log import Segment
from buffer_service.storage.log_recovery import TORN_SUFFIX
from buffer_service.storage.maintenance import Limits
from buffer_service.storage.spare import Spare
from tests.helpers.simulated_fs import FOLDER, SimulatedFileSystem
from tests.helpers.storage_invariants import check_recovered
from tests.helpers.storage_model import SHAPE, Model, append_operation, group_of
from tests.helpers.storage_simulation import Later, open_simulated

LIMITS = Limits(segment_bytes=16 << 10, snapshot_log_bytes=1 << 20, snapshot_changes=1 << 20)
PAYLOAD_BYTES = 500


def append_to(store: FileStore, model: Model, random: Random, payload_bytes: int) -> None:
    """Commit an append with a payload of this size, and follow with the model."""
    payload = random.randbytes(payload_bytes)
    operation = msgspec.structs.replace(append_operation(random, model), payload=payload)
    group = group_of(store, [operation])
    store.commit(group)
    group.publish()
    model.apply(operation)


class Written:
    """A store on a simulated disk that is written to, one append in a commit."""

    def __init__(self) -> None:
        self.system = SimulatedFileSystem()
        self.background = Later()
        self.model = Model()
        self.random = Random(0)
        self.store = open_simulated(self.system, self.background, LIMITS)

    def append(self, times: int = 1, payload_bytes: int = PAYLOAD_BYTES) -> None:
        """Commit appends, each in a group of its own."""
        for _ in range(times):
            append_to(self.store, self.model, self.random, payload_bytes)

    def append_ahead(self) -> None:
        """Append until the segment is one whose space was written ahead."""
        self.append(4)
        self.background.work()
        self.append()
        assert self.segment.ahead_bytes == LIMITS.segment_bytes

    @property
    def segment(self) -> Segment:
        """The segment that is written to."""
        return self.store._log.current

    def spares(self) -> list[str]:
        """Return the names of the files that are no segment yet."""
        return [name for name in self.system.names(FOLDER) if name.endswith(TEMPORARY_SUFFIX)]


@pytest.fixture
def written() -> Written:
    """A new store."""
    return Written()


def test_appends_to_space_written_ahead_leave_the_file_as_large_as_it_was(written: Written) -> None:
    """So that a sync has nothing to record but what was written."""
    written.append_ahead()
    sizes = set()
    while written.segment.size < LIMITS.segment_bytes - 2 * PAYLOAD_BYTES:
        written.append()
        sizes.add(written.segment.file.size())

    assert sizes == {LIMITS.segment_bytes}
    check_recovered(open_simulated(written.system, limits=LIMITS), written.model)


def test_the_next_segment_is_made_ahead_again_and_again(written: Written) -> None:
    """Once the first one is there, every segment is one whose space was written ahead."""
    written.append_ahead()
    for _ in range(5):
        number = written.segment.header.number
        while written.segment.header.number == number:
            written.append()
            written.background.work()

        assert written.segment.ahead_bytes == LIMITS.segment_bytes
    check_recovered(open_simulated(written.system, limits=LIMITS), written.model)


def test_a_log_that_is_hardly_written_to_takes_no_space_ahead(written: Written) -> None:
    """A small store stays small."""
    written.append()
    written.background.work()

    assert written.spares() == []
    assert written.store.size_bytes() < 2 * PAYLOAD_BYTES


def test_a_segment_goes_on_while_the_next_one_is_not_whole(written: Written) -> None:
    """And the one after it is begun without, where it fills up meanwhile."""
    written.append(100)

    assert written.segment.header.number > 1
    assert written.segment.ahead_bytes == 0


def test_space_that_was_not_used_is_cut_off_at_the_next_start(written: Written) -> None:
    """It is no torn write: nothing is reported or kept aside."""
    written.append_ahead()
    path, size = written.segment.path, written.segment.size

    store = open_simulated(written.system, limits=LIMITS)

    assert store.report.torn_bytes == 0
    assert len(written.system.files[path].content) == size
    assert not [name for name in written.system.names(FOLDER) if name.endswith(TORN_SUFFIX)]
    check_recovered(store, written.model)


def test_a_commit_that_was_lost_in_the_midst_of_space_written_ahead_refuses_to_start(written: Written) -> None:
    """Zeroes before a whole frame are not the end of the log."""
    written.append_ahead()
    start = written.segment.size
    written.append(2)
    content = written.system.files[written.segment.path].content
    content[start : start + PAYLOAD_BYTES] = bytes(PAYLOAD_BYTES)
    written.system.files[written.segment.path].durable = bytes(content)

    with pytest.raises(CorruptStoreError, match=rf"offset {start}: a damaged frame, with a whole frame"):
        open_simulated(written.system, limits=LIMITS)


def test_the_size_of_a_store_counts_what_was_taken_ahead(written: Written) -> None:
    """The present segment whole, and the next one once it is there."""
    written.append_ahead()
    written.append(4)
    before = written.store.size_bytes()
    written.background.work()

    assert before >= LIMITS.segment_bytes
    assert written.store.size_bytes() == before + LIMITS.segment_bytes


def test_a_disk_with_little_room_is_left_to_others(written: Written) -> None:
    """Exports and indexes stand on the same volume."""
    written.system.capacity_bytes = written.system.used_bytes + 7 * LIMITS.segment_bytes
    written.append(4)
    written.background.work()

    assert written.spares() == []


def test_a_full_disk_takes_appends_in_the_space_of_the_next_segment(written: Written) -> None:
    """It is given up before an append is refused."""
    written.append(4)
    written.background.work()
    assert written.spares()
    written.system.capacity_bytes = written.system.used_bytes
    written.store._log.current.ahead_bytes = 1  # or the next segment would be begun, for which there is room

    written.append(payload_bytes=4000)

    assert written.spares() == []
    with pytest.raises(StorageFullError):
        written.append(payload_bytes=2 * LIMITS.segment_bytes)
    check_recovered(open_simulated(written.system, limits=LIMITS), written.model)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_fault_of_the_disk_in_making_it_ahead_costs_nothing(code: int, written: Written) -> None:
    """The log goes on without, and leaves nothing behind."""
    written.append(4)
    written.system.fail = lambda _step, kind, path: code if kind == "sync" and path.name.startswith("spare") else None
    written.background.work()
    written.append()

    assert written.spares() == []
    assert written.segment.ahead_bytes == 0
    check_recovered(open_simulated(written.system, limits=LIMITS), written.model)


def test_what_a_later_process_has_removed_is_not_taken(tmp_path: Path) -> None:
    """The segment is made anew then, which finds out whose the store is."""
    background = Later()
    spare = Spare(RealFileSystem(), tmp_path, 1 << 10, 7, background)
    spare.prepare()
    background.work()
    for path in tmp_path.iterdir():
        path.unlink()

    assert not spare.become(tmp_path / "segment", b"content")
    assert not (tmp_path / "segment").exists()


def test_an_unfinished_commit_in_space_written_ahead_is_kept_aside_without_that_space(written: Written) -> None:
    """Megabytes of zeroes say nothing."""
    written.append_ahead()
    inode, size = written.system.files[written.segment.path], written.segment.size
    inode.content[size : size + 12] = b"half a frame"
    inode.durable = bytes(inode.content)

    store = open_simulated(written.system, limits=LIMITS)

    (aside,) = [path for path in written.system.files if path.name.endswith(TORN_SUFFIX)]
    kept = bytes(written.system.files[aside].content)
    assert kept.rstrip(b"\0") == b"half a frame"
    assert store.report.torn_bytes == len(kept) < LIMITS.segment_bytes - size
    check_recovered(store, written.model)


def test_a_store_that_is_closed_gives_its_space_back(written: Written) -> None:
    """A copy of its folder is as small as what is in it."""
    written.append_ahead()
    path, size = written.segment.path, written.segment.size
    written.store.close()

    assert len(written.system.files[path].content) == size


def test_a_store_that_is_closed_leaves_no_spare(tmp_path: Path) -> None:
    """On a real disk, with the default limits."""
    store, model, random = FileStore.open(tmp_path, SHAPE), Model(), Random(0)
    for _ in range(3):
        append_to(store, model, random, 1 << 20)
    store.close()

    assert not list(tmp_path.glob(f"*{TEMPORARY_SUFFIX}"))
    again = FileStore.open(tmp_path, SHAPE)
    check_recovered(again, model)
    again.close()


def test_closing_does_not_wait_until_the_space_is_written(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have to be given back at once."""
    touched, step = list[str](), written.system.step

    def noted(kind: str, path: Path) -> OSError | None:
        touched.append(path.name)
        return step(kind, path)

    written.append(4)
    monkeypatch.setattr(written.system, "step", noted)
    monkeypatch.setattr(written.background, "shutdown", written.background.work)
    written.store.close()

    assert not [name for name in touched if name.startswith("spare")]
