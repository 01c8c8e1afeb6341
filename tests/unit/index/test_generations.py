"""Loading a generation: everything is checked, and any doubt refuses it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from buffer_service.contract.generation import (
    IDS_FILE,
    INDEX_FILE,
    MANIFEST_FILE,
    encode_manifest,
    generation_name,
    manifest_digest,
    parse_generation_name,
)
from buffer_service.contract.pointer import Pointer
from buffer_service.index.engine import Engine
from buffer_service.index.errors import RefusedGenerationError
from buffer_service.index.generations import load, read_manifest
from tests.helpers.device import DEVICE
from tests.helpers.generations import build
from tests.helpers.vectors import unit_vectors


@pytest.fixture
def pointer(tmp_path: Path) -> Pointer:
    """A pointer to a good generation in tmp_path."""
    return build(tmp_path, dict(enumerate(unit_vectors(30, 8), start=1)), 1, watermark=30)


def _load(folder: Path, pointer: Pointer, dimension: int = 8, metric: str = "cosine") -> None:
    load(Engine(DEVICE), folder / "indexes", pointer, dimension, metric)


@pytest.mark.parametrize("name", [INDEX_FILE, IDS_FILE, "canaries.npy", MANIFEST_FILE])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path, pointer: Pointer, name: str, share: float) -> None:
    """FAISS itself would load a damaged payload without a word."""
    path = tmp_path / "indexes" / generation_name(1) / name
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)

    with pytest.raises(RefusedGenerationError, match="gen-0000000001"):
        _load(tmp_path, pointer)


@pytest.mark.parametrize("name", [INDEX_FILE, IDS_FILE, MANIFEST_FILE])
def test_a_missing_or_truncated_file_is_refused(tmp_path: Path, pointer: Pointer, name: str) -> None:
    """A half-copied directory is not served."""
    path = tmp_path / "indexes" / generation_name(1) / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RefusedGenerationError):
        _load(tmp_path, pointer)

    path.unlink()
    with pytest.raises(RefusedGenerationError, match="cannot be read"):
        _load(tmp_path, pointer)


def test_another_shape_is_refused(tmp_path: Path, pointer: Pointer) -> None:
    """Dimension and metric must be the buffer's."""
    with pytest.raises(RefusedGenerationError, match="dimension 8"):
        _load(tmp_path, pointer, dimension=16)
    with pytest.raises(RefusedGenerationError, match="metric cosine"):
        _load(tmp_path, pointer, metric="euclidean")


def test_a_generation_that_is_not_there_is_refused(tmp_path: Path, pointer: Pointer) -> None:
    """A pointer to nowhere is refused by name."""
    with pytest.raises(RefusedGenerationError, match="gen-0000000007"):
        _load(tmp_path, msgspec.structs.replace(pointer, generation=7))


def _with_manifest(folder: Path, pointer: Pointer, **changes: object) -> Pointer:
    manifest, _ = read_manifest(folder / "indexes", 1)
    data = encode_manifest(msgspec.structs.replace(manifest, **changes))
    (folder / "indexes" / generation_name(1) / MANIFEST_FILE).write_bytes(data)
    return msgspec.structs.replace(pointer, manifest_sha256=manifest_digest(data))


def test_counts_that_disagree_are_refused(tmp_path: Path, pointer: Pointer) -> None:
    """Index, ids and manifest must tell the same number of rows."""
    with pytest.raises(RefusedGenerationError, match="31 announced"):
        _load(tmp_path, _with_manifest(tmp_path, pointer, count=31))


def test_a_canary_that_is_not_found_refuses_the_generation(tmp_path: Path, pointer: Pointer) -> None:
    """Ids in the wrong order pass every checksum; the canaries find it."""
    folder = tmp_path / "indexes" / generation_name(1)
    other = build(tmp_path / "other", dict(enumerate(unit_vectors(30, 8, seed=9), start=1)), 1, watermark=30)
    wrong = (tmp_path / "other" / "indexes" / generation_name(1) / INDEX_FILE).read_bytes()
    (folder / INDEX_FILE).write_bytes(wrong)
    manifest, _ = read_manifest(tmp_path / "indexes", 1)
    theirs, _ = read_manifest(tmp_path / "other" / "indexes", other.generation)
    files = {**manifest.files, INDEX_FILE: theirs.files[INDEX_FILE]}

    with pytest.raises(RefusedGenerationError, match="canaries"):
        _load(tmp_path, _with_manifest(tmp_path, pointer, files=files))


@pytest.mark.parametrize("name", ["gen-1", "gen-00000000001", "gen-000000000a", "../gen-0000000001", "", "gen-"])
def test_only_the_exact_form_is_a_generation_name(name: str) -> None:
    """A name that could leave the folder or be read two ways is none."""
    assert parse_generation_name(name) is None


def test_generation_names_sort_as_their_numbers() -> None:
    """Ten digits, zero-filled."""
    assert generation_name(12) == "gen-0000000012"
    assert parse_generation_name(generation_name(12)) == 12
