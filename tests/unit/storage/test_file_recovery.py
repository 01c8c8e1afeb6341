"""What the file store makes of a damaged folder: it repairs only what was never acknowledged."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import msgspec
import pytest

from buffer_service.errors import CorruptStoreError, FatalError, IncompatibleStoreError
from buffer_service.storage.log import segment_name, segment_numbers, segment_of
from buffer_service.storage.log_format import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES
from buffer_service.storage.maintenance import Limits
from buffer_service.storage.snapshot import snapshot_name, snapshot_sequences
from tests.helpers.simulated_fs import FOLDER, Inode, SimulatedFileSystem
from tests.helpers.storage_invariants import check_recovered
from tests.helpers.storage_model import Model, append_operation, group_of, model_of
from tests.helpers.storage_open import commit_random, fill
from tests.helpers.storage_simulation import Later, open_simulated

ONE_SEGMENT = Limits(segment_bytes=1 << 20, snapshot_log_bytes=1 << 20, snapshot_changes=1 << 20)
FIRST = FOLDER / segment_name(1)


def copy_of(system: SimulatedFileSystem) -> SimulatedFileSystem:
    """Return a disk with the same content, all of it synced."""
    copy = SimulatedFileSystem()
    copy.files = {path: Inode(bytes(file.content), [], bytearray(file.content)) for path, file in system.files.items()}
    copy.durable_names = dict(copy.files)
    return copy


def write(system: SimulatedFileSystem, path: Path, content: bytes) -> SimulatedFileSystem:
    """Return a copy of the disk with another content of one file."""
    copy = copy_of(system)
    copy.files[path].content[:] = content
    copy.files[path].durable = content
    return copy


def flipped(content: bytes, position: int) -> bytes:
    """Return the content with one bit flipped."""
    return content[:position] + bytes([content[position] ^ 1 << position % 8]) + content[position + 1 :]


def log_of_three_groups() -> tuple[SimulatedFileSystem, list[Model], list[int]]:
    """Return a disk with one segment, the state after each group, and where each group ends."""
    system = SimulatedFileSystem()
    store = open_simulated(system, limits=ONE_SEGMENT)
    states, ends, random = [Model()], [SEGMENT_HEADER_BYTES], Random(3)
    for _ in range(3):
        states.append(commit_random(store, states[-1], random))
        ends.append(len(system.files[FIRST].content))
    return system, states, ends


def store_with_snapshots() -> tuple[SimulatedFileSystem, Model, list[Path]]:
    """Return a disk with two snapshots and a log that was cut, and the state."""
    system, background = SimulatedFileSystem(), Later()
    store = open_simulated(system, background)
    model, random = Model(), Random(0)
    for _ in range(60):
        model = commit_random(store, model, random)
        background.work()
    names = system.names(FOLDER)
    snapshots = [FOLDER / snapshot_name(sequence) for sequence in snapshot_sequences(names)]
    assert len(snapshots) == 2
    assert segment_numbers(names)[0] > 1
    return system, model, snapshots


def test_a_last_group_cut_short_anywhere_is_cut_off_and_kept_aside() -> None:
    """Whatever length the file was left with, the groups before are there and the rest is in a file of its own."""
    system, states, ends = log_of_three_groups()
    content = bytes(system.files[FIRST].content)
    for length in range(ends[2] + 1, ends[3]):
        torn = write(system, FIRST, content[:length])
        store = open_simulated(torn, limits=ONE_SEGMENT)
        check_recovered(store, states[2])
        assert store.report.torn_bytes == length - ends[2]
        assert bytes(torn.files[FOLDER / f"{FIRST.name}.{ends[2]}.torn"].content) == content[ends[2] : length]
        assert torn.files[FIRST].content == content[: ends[2]]


@pytest.mark.parametrize("zeroes", [1, 8, 4096])
def test_zeroes_at_the_end_are_the_end_of_the_log(zeroes: int) -> None:
    """Space that was given to the file and never written is no torn group."""
    system, states, _ = log_of_three_groups()
    longer = write(system, FIRST, bytes(system.files[FIRST].content) + bytes(zeroes))
    store = open_simulated(longer, limits=ONE_SEGMENT)
    check_recovered(store, states[3])
    assert store.report.torn_bytes == 0


def test_any_flipped_bit_before_the_last_group_refuses_to_start() -> None:
    """Later groups were acknowledged, so nothing may be skipped; the message names file and offset."""
    system, _, ends = log_of_three_groups()
    content = bytes(system.files[FIRST].content)
    for position in range(ends[2]):
        damaged = write(system, FIRST, flipped(content, position))
        with pytest.raises(FatalError, match=FIRST.name) as refusal:
            open_simulated(damaged, limits=ONE_SEGMENT)
        assert isinstance(refusal.value, IncompatibleStoreError) or "offset" in str(refusal.value)
        assert damaged.files[FIRST].content == flipped(content, position), "nothing was changed"


def test_a_flipped_bit_in_the_last_group_cannot_be_told_from_a_tear() -> None:
    """It is cut off with a warning and kept aside, whole."""
    system, states, ends = log_of_three_groups()
    content = bytes(system.files[FIRST].content)
    for position in range(ends[2], ends[3]):
        store = open_simulated(write(system, FIRST, flipped(content, position)), limits=ONE_SEGMENT)
        check_recovered(store, states[2])
        assert store.report.torn_bytes == ends[3] - ends[2]


def test_the_content_of_an_experience_never_passes_for_a_group() -> None:
    """A torn group whose payload is a copy of real frames is a tear, not a damaged frame with whole ones after it."""
    system, states, _ = log_of_three_groups()
    other = open_simulated(other_disk := SimulatedFileSystem(), limits=ONE_SEGMENT)
    fill(other, 4)
    frames = bytes(other_disk.files[FIRST].content)[SEGMENT_HEADER_BYTES:]
    store = open_simulated(system, limits=ONE_SEGMENT)
    append = msgspec.structs.replace(append_operation(Random(0), states[3]), payload=frames + bytes(64))
    store.commit(group_of(store, [append]))
    last = FOLDER / segment_name(2)
    torn = bytes(system.files[last].content)[:-8]
    assert frames in torn
    assert len(torn) > SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES
    check_recovered(open_simulated(write(system, last, torn), limits=ONE_SEGMENT), states[3])


def test_groups_of_an_older_segment_after_the_end_are_not_replayed() -> None:
    """Stale bytes have another salt: they are cut off like any other junk."""
    system, states, _ = log_of_three_groups()
    other = open_simulated(other_disk := SimulatedFileSystem(), limits=ONE_SEGMENT)
    fill(other, 4)
    stale = bytes(other_disk.files[FIRST].content)[SEGMENT_HEADER_BYTES:]
    mixed = write(system, FIRST, bytes(system.files[FIRST].content) + stale)
    check_recovered(open_simulated(mixed, limits=ONE_SEGMENT), states[3])


def test_a_missing_or_renamed_segment_refuses_to_start() -> None:
    """A gap is named, and a segment under another one's name is noticed."""
    system, _, _ = store_with_snapshots()
    needed = segment_numbers(system.names(FOLDER))[1:-1]
    for number in needed:
        path = FOLDER / segment_name(number)
        without = copy_of(system)
        del without.files[path]
        with pytest.raises(CorruptStoreError, match=path.name):
            open_simulated(without)
        swapped = copy_of(system)
        swapped.files[path] = swapped.files[FOLDER / segment_name(number + 1)]
        with pytest.raises(CorruptStoreError, match=f"{path.name}, offset 0"):
            open_simulated(swapped)


def test_a_damaged_newest_snapshot_falls_back_to_the_one_before() -> None:
    """Any flipped bit and any cut is noticed; nothing is lost, and the damaged file is set aside."""
    system, model, snapshots = store_with_snapshots()
    content = bytes(system.files[snapshots[1]].content)
    versions = range(8, 12)
    damages = [flipped(content, position) for position in range(len(content)) if position not in versions]
    for damage in [*damages[::7], content[:-1], content[: len(content) // 2], b""]:
        damaged = write(system, snapshots[1], damage)
        store = open_simulated(damaged)
        check_recovered(store, model)
        assert snapshots[1] not in damaged.files
        assert damaged.files[snapshots[1].with_name(snapshots[1].name + ".bad")].content == damage


def test_without_any_good_snapshot_a_log_that_was_cut_refuses_to_start() -> None:
    """What stood in the segments that were dropped cannot be replayed."""
    system, _, snapshots = store_with_snapshots()
    for path in snapshots:
        system = write(system, path, b"junk")
    with pytest.raises(CorruptStoreError, match=f"{snapshots[0].name} is damaged too"):
        open_simulated(system)


def test_a_flipped_bit_in_a_record_is_found_when_it_is_read() -> None:
    """Older segments are not replayed at the start; each record carries checksums of its own."""
    system, model, _ = store_with_snapshots()
    found = 0
    places = [row.place for row in open_simulated(system).table.rows()]
    oldest = FOLDER / segment_name(min(map(segment_of, places)))
    content = bytes(system.files[oldest].content)
    for position in range(SEGMENT_HEADER_BYTES, len(content)):
        try:
            store = open_simulated(write(system, oldest, flipped(content, position)))
            assert model_of(store) == model
        except CorruptStoreError as error:
            assert oldest.name in str(error)  # noqa: PT017 - whether it is raised depends on what the bit belongs to
            found += 1
    assert found > 0


def test_a_read_error_refuses_to_start() -> None:
    """Skipping what cannot be read would lose it."""
    system, _, _ = store_with_snapshots()
    system.read_error = errno.EIO
    with pytest.raises(CorruptStoreError, match="Input/output error"):
        open_simulated(system)
    system.read_error = None
    open_simulated(system)


def test_a_newer_format_is_refused_as_such() -> None:
    """A downgrade says so instead of calling the store corrupt."""
    system, _, snapshots = store_with_snapshots()
    content = bytes(system.files[snapshots[1]].content)
    with pytest.raises(IncompatibleStoreError, match="has format 3; this program reads 2"):
        open_simulated(write(system, snapshots[1], content[:8] + b"\x03" + content[9:]))
