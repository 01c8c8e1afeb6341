"""What is particular to the lmdb adapter: damage that LMDB itself would not notice, or would die of."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random

import lmdb
import msgspec
import pytest

from buffer_service.errors import CorruptStoreError, IncompatibleStoreError, StorageFullError
from buffer_service.storage import mount
from buffer_service.storage.base import Store
from buffer_service.storage.lmdb_check import DATA_FILE, require_whole
from buffer_service.storage.lmdb_store import LmdbStore
from buffer_service.storage.operations import Append, Operation, Remove
from tests.helpers.storage_invariants import check_recovered
from tests.helpers.storage_model import SHAPE, Model, append_operation, group_of, model_of
from tests.helpers.storage_open import commit_random, fill, opened

PAGE_BYTES = 4096


def append_of(model: Model, payload: bytes) -> Append:
    """Return the next append with this payload."""
    return msgspec.structs.replace(append_operation(Random(0), model), payload=payload)


def commit(store: Store, model: Model, operation: Operation) -> None:
    """Commit and publish, and follow with the model."""
    group = group_of(store, [operation])
    store.commit(group)
    group.publish()
    model.apply(operation)


def test_the_environment_keeps_to_durable_settings(tmp_path: Path) -> None:
    """Every commit is synced, the meta page included, and nothing is written through the map."""
    with opened("lmdb", tmp_path) as store:
        assert isinstance(store, LmdbStore)
        flags = store._environment.flags()
        assert flags["sync"]
        assert flags["metasync"]
        assert flags["lock"]
        assert flags["meminit"]
        assert not flags["map_async"]
        assert not flags.get("writemap")


@pytest.mark.parametrize("pages_lost", [1, 5])
def test_a_truncated_file_is_refused_before_it_is_mapped(pages_lost: int, tmp_path: Path) -> None:
    """Reading beyond its end would kill the process; the message names file and offset."""
    with opened("lmdb", tmp_path) as store:
        fill(store, 20)
    path = tmp_path / DATA_FILE
    with lmdb.open(str(tmp_path), readonly=True, lock=False) as environment:
        size = (environment.info()["last_pgno"] + 1 - pages_lost) * PAGE_BYTES
    with path.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(CorruptStoreError, match=f"{DATA_FILE}, offset {size}"), opened("lmdb", tmp_path):
        pass


@pytest.mark.parametrize("page", [0, 1])
def test_a_zeroed_meta_page_is_refused(page: int, tmp_path: Path) -> None:
    """The message names file and offset instead of LMDB's error number."""
    with opened("lmdb", tmp_path) as store:
        fill(store, 3)
    with (tmp_path / DATA_FILE).open("r+b") as file:
        file.seek(page * PAGE_BYTES)
        file.write(bytes(PAGE_BYTES))
    with pytest.raises(CorruptStoreError, match=f"{DATA_FILE}, offset {page * PAGE_BYTES}"), opened("lmdb", tmp_path):
        pass


def test_the_file_is_never_shorter_than_the_check_demands(tmp_path: Path) -> None:
    """Whatever is committed, a sound store passes the check that finds truncated ones."""
    model, random = Model(), Random(7)
    with opened("lmdb", tmp_path) as store:
        for _ in range(300):
            model = commit_random(store, model, random, 12)
            require_whole(tmp_path)


@pytest.mark.parametrize("what", [b"payload of", b"request-"])
def test_a_flipped_bit_in_a_value_is_found(what: bytes, tmp_path: Path) -> None:
    """LMDB would return it as good: rows and answers are verified at the start, records when they are read."""
    model, random = Model(), Random(2)
    with opened("lmdb", tmp_path) as store:
        for _ in range(10):
            model = commit_random(store, model, random)
        commit(store, model, append_of(model, b"payload of the record"))
        assert model.requests
    path = tmp_path / DATA_FILE
    content = bytearray(path.read_bytes())
    for start in range(len(content)):
        if content.startswith(what, start):
            content[start] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CorruptStoreError, match="checksum"), opened("lmdb", tmp_path) as store:
        model_of(store)


def test_a_full_map_refuses_appends_and_still_takes_removals(tmp_path: Path) -> None:
    """Nothing of a refused group is there; once something was removed, appends are taken again."""
    map_size_bytes = 1 << 20
    store = LmdbStore.open(tmp_path, SHAPE, map_size_bytes)
    model = Model()
    with contextlib.suppress(StorageFullError):
        for _ in range(1000):
            commit(store, model, append_of(model, bytes(3000)))
    with pytest.raises(StorageFullError, match="map_size_bytes"):
        commit(store, model, append_of(model, bytes(3000)))
    check_recovered(store, model)
    for experience in sorted(model.experiences)[:20]:
        commit(store, model, Remove(model.sequence + 1, experience))
    for _ in range(10):
        commit(store, model, append_of(model, bytes(3000)))
    assert store.size_bytes() <= map_size_bytes
    store.close()
    with opened("lmdb", tmp_path) as reopened:
        check_recovered(reopened, model)


def test_a_newer_format_is_refused_as_such(tmp_path: Path) -> None:
    """A downgrade says so instead of calling the store corrupt."""
    with opened("lmdb", tmp_path) as store:
        assert isinstance(store, LmdbStore)
        fill(store, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("buffer_service.storage.lmdb_load.FORMAT_VERSION", 0)
        with (
            pytest.raises(IncompatibleStoreError, match="has format 2; this program reads 0"),
            opened("lmdb", tmp_path),
        ):
            pass


def test_a_store_that_another_program_changed_is_refused(tmp_path: Path) -> None:
    """Rows and records that do not belong together are noticed at the start."""
    with opened("lmdb", tmp_path) as store:
        fill(store, 5)
    with lmdb.open(str(tmp_path), max_dbs=4) as environment:
        records = environment.open_db(b"records")
        with environment.begin(db=records, write=True) as transaction, transaction.cursor() as cursor:
            cursor.first()
            cursor.delete()
    with pytest.raises(CorruptStoreError, match="records"), opened("lmdb", tmp_path):
        pass


def test_a_remote_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LMDB's locks and map do not hold there; the sentence says what to do."""
    monkeypatch.setattr(mount, "_magic", lambda _folder: 0x6969)
    with pytest.raises(IncompatibleStoreError, match="is on NFS; LMDB needs a local disk"), opened("lmdb", tmp_path):
        pass


def test_the_kind_of_a_file_system_is_read_from_the_kernel() -> None:
    """The process file system has a known number."""
    assert mount._magic(Path("/proc")) == 0x9FA0
