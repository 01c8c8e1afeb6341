"""Backups of both backends: what they hold, what is refused, and stores made from them."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

import pytest

from buffer_service.core.restoring import restore
from buffer_service.errors import CorruptStoreError, InvalidRequestError, UnusableBackupError
from buffer_service.storage.backup import read_backup, stream
from buffer_service.storage.base import BackupFile, BackupSource, Store
from tests.helpers.storage_model import SHAPE, Model, append_operation, group_of, model_of, random_operations
from tests.helpers.storage_open import BACKENDS, commit_random, fill, opened, settle

BLOCK = 512


def backup_of(store: Store) -> bytes:
    """Return a whole backup."""
    return b"".join(stream(store.backup()))


def restored(data: bytes, folder: Path, backend: str, sequence: int | None = None) -> Model:
    """Restore, and read everything back."""
    restore(io.BytesIO(data), folder, sequence)
    with opened(backend, folder / "store") as store:
        return model_of(store)


def restored_or_refusal(data: bytes, folder: Path, sequence: int) -> Model | str:
    """Restore a file store; returns why not, where it is refused."""
    try:
        return restored(data, folder, "file", sequence)
    except UnusableBackupError as error:
        return str(error)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backup_is_the_store_at_the_moment_it_was_asked_for(tmp_path: Path, backend: str) -> None:
    """What is committed, removed and compacted while it is read is not in it, and the restored store takes writes."""
    with opened(backend, tmp_path / "store") as store:
        then = fill(store, 60)
        parts = stream(source := store.backup())
        first = next(parts)
        there = set((tmp_path / "store").glob("segment-*.log"))
        now, random = then, Random(1)
        for _ in range(120):
            now = commit_random(store, now, random)
        assert backend == "lmdb" or not there <= set((tmp_path / "store").glob("segment-*.log"))
        data = first + b"".join(parts)
        assert (source.sequence, source.count) == (then.sequence, len(then.experiences))
        assert model_of(store) == now

    folder = tmp_path / "restored"
    assert restored(data, folder, backend) == then
    assert {path.name for path in folder.iterdir()} == {"store"}
    with opened(backend, folder / "store") as store:
        after = commit_random(store, then, Random(2))
        assert model_of(store) == after


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backup_of_an_empty_store_can_be_restored(tmp_path: Path, backend: str) -> None:
    """Sequence 0, no experience."""
    with opened(backend, tmp_path / "store") as store:
        data = backup_of(store)

    assert restored(data, tmp_path / "restored", backend) == Model()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backup_that_was_cut_off_is_refused(tmp_path: Path, backend: str) -> None:
    """At every block and within each, up to the end of the manifest; nothing is left."""
    with opened(backend, tmp_path / "store") as store:
        fill(store, 30)
        data = backup_of(store)
    read_backup(io.BytesIO(data))
    manifest_end = data.rindex(b"}") + 1

    for length in sorted({*range(0, manifest_end, BLOCK), *range(100, manifest_end, 3 * BLOCK), manifest_end - 1}):
        with pytest.raises(UnusableBackupError):
            read_backup(io.BytesIO(data[:length]))
    with pytest.raises(UnusableBackupError, match="cut off or damaged"):
        restore(io.BytesIO(data[: len(data) // 2]), tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_flipped_byte_passes_for_another_backup(tmp_path: Path, backend: str) -> None:
    """It is refused, or it stands where nothing is read."""
    with opened(backend, tmp_path / "store") as store:
        fill(store, 12)
        data = backup_of(store)
    sound = read_backup(io.BytesIO(data))
    refused = 0

    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 0x01
        try:
            assert read_backup(io.BytesIO(bytes(damaged))) == sound, position
        except UnusableBackupError:
            refused += 1
    content = sum(member.size_bytes for member in sound.members)
    assert refused >= content // 7


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    """Nothing at all, something else, and a member that would land outside the folder."""
    outside = BackupFile("../outside.bin", 1, iter([b"x"]))
    escaping = io.BytesIO(b"".join(stream(BackupSource("file", SHAPE, 0, 0, iter([outside])))))

    for archive in (io.BytesIO(), io.BytesIO(b"x" * 2000), io.BytesIO(bytes(20_000)), escaping):
        with pytest.raises(UnusableBackupError):
            restore(archive, tmp_path / "restored")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    """And is left as it is."""
    with opened("file", tmp_path / "data" / "store") as store:
        model = fill(store, 3)
        data = backup_of(store)

    with pytest.raises(InvalidRequestError, match="not empty"):
        restore(io.BytesIO(data), tmp_path / "data")
    with opened("file", tmp_path / "data" / "store") as store:
        assert model_of(store) == model


def test_what_a_killed_restore_left_is_taken_over(tmp_path: Path) -> None:
    """A later restore into the folder begins anew."""
    with opened("file", tmp_path / "store") as store:
        model = fill(store, 3)
        data = backup_of(store)
    left = tmp_path / "restored" / ".restoring" / "store" / "parts"
    left.mkdir(parents=True)
    (left / "segment-0000000009.log").write_bytes(b"half")

    assert restored(data, tmp_path / "restored", "file") == model
    assert {path.name for path in (tmp_path / "restored").iterdir()} == {"store"}


def test_a_file_store_is_restored_to_every_sequence_that_its_log_covers(tmp_path: Path) -> None:
    """Also to one in the midst of a commit, and after a restart; what is not covered is refused with what is."""
    random, model = Random(3), Model()
    models = {0: model}
    for _ in range(3):
        with opened("file", tmp_path / "store") as store:
            for _ in range(14):
                operations = random_operations(random, model, 3)
                group = group_of(store, operations)
                store.commit(group)
                group.publish()
                for operation in operations:
                    model = model.copy()
                    model.apply(operation)
                    models[model.sequence] = model
    with opened("file", tmp_path / "store") as store:
        data = backup_of(store)

    found = {sequence: restored_or_refusal(data, tmp_path / f"at-{sequence}", sequence) for sequence in models}
    unwritten = {sequence for sequence, what in found.items() if "was never written" in str(what)}
    uncovered = {sequence for sequence, what in found.items() if "is not covered" in str(what)}
    covered = set(models) - uncovered
    assert {sequence: found[sequence] for sequence in covered - unwritten} == {
        sequence: models[sequence] for sequence in covered - unwritten
    }
    assert max(uncovered) < min(covered)
    assert len(unwritten) < 10 < len(covered)
    with pytest.raises(UnusableBackupError, match=f"goes from {min(covered)} to {model.sequence}"):
        restore(io.BytesIO(data), tmp_path / "later", model.sequence + 1)


def test_a_commit_is_cut_in_its_midst(tmp_path: Path) -> None:
    """Many callers share a commit, and each of them was told a sequence of its own."""
    model, random = Model(), Random(0)
    operations = []
    models = {0: model}
    for _ in range(6):
        operations.append(append_operation(random, model))
        model = model.copy()
        model.apply(operations[-1])
        models[model.sequence] = model
    with opened("file", tmp_path / "store") as store:
        group = group_of(store, operations)
        store.commit(group)
        group.publish()
        data = backup_of(store)

    for sequence, expected in models.items():
        assert restored(data, tmp_path / f"restored-{sequence}", "file", sequence) == expected


def test_an_lmdb_backup_has_its_own_sequence_alone(tmp_path: Path) -> None:
    """It holds no log; its own sequence may be asked for."""
    with opened("lmdb", tmp_path / "store") as store:
        model = fill(store, 5)
        data = backup_of(store)

    with pytest.raises(UnusableBackupError, match=f"only its own sequence {model.sequence} can be restored"):
        restore(io.BytesIO(data), tmp_path / "restored", model.sequence - 1)
    assert restored(data, tmp_path / "restored", "lmdb", model.sequence) == model


def test_a_snapshot_that_was_damaged_before_it_was_copied_costs_nothing(tmp_path: Path) -> None:
    """The one before it and the log are in the backup too."""
    with opened("file", tmp_path / "store") as store:
        model = fill(store, 60)
        settle(store)
        newest = max((tmp_path / "store").glob("snapshot-*.bin"))
        newest.write_bytes(newest.read_bytes()[:-1] + b"?")
        data = backup_of(store)

    assert restored(data, tmp_path / "restored", "file") == model


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_store_that_is_damaged_is_not_passed_on(tmp_path: Path, backend: str) -> None:
    """Whether the damage shows while it is copied, or when it is restored, no buffer is made of it."""
    with opened(backend, tmp_path / "store") as store:
        model = fill(store, 60)
        settle(store)
        payload = next(item.payload for item in model.experiences.values() if len(item.payload) > 16)
        name = "segment-*.log" if backend == "file" else "data.mdb"
        for path in (tmp_path / "store").glob(name):
            path.write_bytes(path.read_bytes().replace(payload, payload[::-1]))
        with pytest.raises((CorruptStoreError, UnusableBackupError)):
            restore(io.BytesIO(backup_of(store)), tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
