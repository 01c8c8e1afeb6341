"""xbuf repair: what loses nothing is done and said; where something would be lost, nothing is changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from buffer_service.contract.generation import generation_name
from buffer_service.core.repairing import repair
from buffer_service.core.verification import verify
from buffer_service.errors import CorruptStoreError, InvalidRequestError, StoreLockedError
from buffer_service.storage.lock import LOCK_FILE
from buffer_service.storage.log_format import SEGMENT_HEADER_BYTES
from tests.helpers.storage_model import Model, model_of
from tests.helpers.storage_open import BACKENDS, fill, opened


def filled(folder: Path, backend: str = "file") -> Model:
    """Make a store and return its model."""
    with opened(backend, folder) as store:
        return fill(store, 60)


def read(folder: Path, backend: str = "file") -> Model:
    """Return the model of a store."""
    with opened(backend, folder) as store:
        return model_of(store)


def flip(path: Path, position: int) -> None:
    """Damage one byte."""
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


def digests(folder: Path) -> dict[str, str]:
    """Return the content of a folder but for the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_FILE)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sound_store_is_left_as_it_is(tmp_path: Path, backend: str) -> None:
    """Nothing is done, and nothing is said."""
    filled(tmp_path / "store", backend)
    before = digests(tmp_path)

    assert repair(tmp_path) == []
    assert digests(tmp_path) == before


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_snapshot_is_set_aside(tmp_path: Path, which: int) -> None:
    """The newest or the one before: the other and the log hold all that was in it."""
    model = filled(tmp_path)
    snapshot = sorted(tmp_path.glob("snapshot-*.bin"))[which]
    flip(snapshot, 100)
    assert len(verify(tmp_path)) == 1

    (said,) = repair(tmp_path)

    assert "set aside" in said
    assert snapshot.with_name(f"{snapshot.name}.bad").exists()
    assert verify(tmp_path) == []
    assert read(tmp_path) == model


def test_an_unfinished_commit_is_cut_off_and_kept_aside(tmp_path: Path) -> None:
    """It was never acknowledged; files that were never finished go too."""
    model = filled(tmp_path)
    segment = max(tmp_path.glob("segment-*.log"))
    segment.write_bytes(segment.read_bytes() + b"half a frame")
    (tmp_path / "snapshot-00000000000000000999.bin.tmp").write_bytes(b"half")

    unfinished, torn = repair(tmp_path)

    assert "never finished" in unfinished
    assert "12 bytes" in torn
    assert [path.read_bytes() for path in tmp_path.glob("*.torn")] == [b"half a frame"]
    assert repair(tmp_path) == []
    assert read(tmp_path) == model


def test_a_generation_and_an_export_that_are_damaged_are_removed(tmp_path: Path) -> None:
    """They are made anew from the store; so is a build that was never finished."""
    filled(tmp_path / "store")
    generation = tmp_path / "indexes" / generation_name(3)
    building = tmp_path / "indexes" / f".building-{generation_name(4)}-x"
    export = tmp_path / "export"
    for folder in (generation, building, export):
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_bytes(b"{")

    assert len(repair(tmp_path)) == 3
    assert [folder.exists() for folder in (generation, building, export)] == [False, False, False]
    assert verify(tmp_path) == []


@pytest.mark.parametrize("damage", ["both snapshots", "a segment is missing", "a record", "the log in its midst"])
def test_nothing_is_changed_where_something_would_be_lost(tmp_path: Path, damage: str) -> None:
    """The sentence says what to do; what could have been repaired besides stays as it is too."""
    filled(tmp_path)
    (tmp_path / "left.tmp").write_bytes(b"half")
    snapshots, segments = sorted(tmp_path.glob("snapshot-*.bin")), sorted(tmp_path.glob("segment-*.log"))
    match damage:
        case "both snapshots":
            assert segments[0].name != "segment-0000000001.log"
            for snapshot in snapshots:
                flip(snapshot, 100)
        case "a segment is missing":
            segments[-2].unlink()
        case "a record":
            with opened("file", tmp_path) as store:
                row = min(store.table.rows(), key=lambda row: row.place)
            (tmp_path / "left.tmp").write_bytes(b"half")
            flip(tmp_path / f"segment-{row.place >> 32:010d}.log", (row.place & 0xFFFFFFFF) + 10)
        case _:
            data = segments[-1].read_bytes()
            segments[-1].write_bytes(data + data[SEGMENT_HEADER_BYTES:])
            flip(segments[-1], 100)
    before = digests(tmp_path)

    with pytest.raises(CorruptStoreError, match="restore the newest backup"):
        repair(tmp_path)
    assert digests(tmp_path) == before


def test_a_damaged_lmdb_store_is_refused(tmp_path: Path) -> None:
    """It has no log to make up for anything."""
    model = filled(tmp_path / "store", "lmdb")
    payload = next(item.payload for item in model.experiences.values() if len(item.payload) > 16)
    path = tmp_path / "store" / "data.mdb"
    path.write_bytes(path.read_bytes().replace(payload, payload[::-1]))

    with pytest.raises(CorruptStoreError, match="restore the newest backup"):
        repair(tmp_path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_store_in_use_is_left_alone(tmp_path: Path, backend: str) -> None:
    """The holder is named."""
    with opened(backend, tmp_path / "store") as store:
        fill(store, 3)
        with pytest.raises(StoreLockedError, match="in use by process"):
            repair(tmp_path)


def test_a_folder_without_a_store_is_left_alone(tmp_path: Path) -> None:
    """Not even a lock is made in it."""
    (tmp_path / "notes.tmp").write_bytes(b"mine")

    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InvalidRequestError, match="holds no store"):
            repair(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.tmp"]
