"""The folder of generations: publishing a new one whole, loading one after checking all of it, removing old ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from buffer_service.contract.generation import (
    CANARIES_FILE,
    COARSE_FILE,
    IDS_FILE,
    INDEX_FILE,
    MANIFEST_FILE,
    VECTORS_FILE,
    InvalidManifestError,
    Manifest,
    decode_manifest,
    encode_manifest,
    generation_name,
    manifest_digest,
    parse_generation_name,
)
from buffer_service.contract.pointer import Pointer
from buffer_service.index.coarse import Coarse
from buffer_service.index.engine import Engine, Opened
from buffer_service.index.errors import RefusedGenerationError
from buffer_service.index.files import sha256_of, sync_file, sync_folder, write_atomically
from buffer_service.index.main import TUNED, MainIndex
from buffer_service.index.metric import Vectors, scores_at

_BUILDING_PREFIX = ".building-"
_CANARY_TOLERANCE = 1e-4


def publish(building: Path, indexes: Path, manifest: Manifest) -> str:
    """Make a finished build a generation and return its manifest's digest; durable on return.

    Where the generation is there already (a Job may run twice), that one stays and its digest is returned.
    """
    data = encode_manifest(manifest)
    for name in manifest.files:
        sync_file(building / name)
    write_atomically(building / MANIFEST_FILE, data)
    target = indexes / generation_name(manifest.generation)
    try:
        building.rename(target)
    except OSError:
        if not (target / MANIFEST_FILE).exists():
            raise
        shutil.rmtree(building)
        return manifest_digest((target / MANIFEST_FILE).read_bytes())
    sync_folder(indexes)
    return manifest_digest(data)


def building_folder(indexes: Path, generation: int, owner: str) -> Path:
    """Return a new folder to build in; what an earlier, killed build of this generation left is removed."""
    for left in indexes.glob(f"{_BUILDING_PREFIX}{generation_name(generation)}-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = indexes / f"{_BUILDING_PREFIX}{generation_name(generation)}-{owner}"
    folder.mkdir(parents=True)
    return folder


def unfinished_builds(indexes: Path) -> list[Path]:
    """Return the folders in which a build is going on, or was when it ended."""
    return sorted(indexes.glob(f"{_BUILDING_PREFIX}*"))


def read_manifest(indexes: Path, generation: int) -> tuple[Manifest, str]:
    """Return a generation's manifest and its digest; raises RefusedGenerationError."""
    path = indexes / generation_name(generation) / MANIFEST_FILE
    try:
        data = path.read_bytes()
        return decode_manifest(data), manifest_digest(data)
    except OSError as error:
        raise RefusedGenerationError(f"{path.parent.name} cannot be read: {error.strerror}") from error
    except InvalidManifestError as error:
        raise RefusedGenerationError(f"{path.parent.name}: {error}") from error


def load(
    engine: Engine,
    indexes: Path,
    pointer: Pointer,
    dimension: int,
    metric: str,
    between: Callable[[], object] = lambda: None,
) -> MainIndex:
    """Load the generation that the pointer names; raises RefusedGenerationError unless every check holds.

    Checked are the manifest's and all files' SHA-256, shape and counts; the canaries are then searched, which also
    warms the index. ``between`` is called after each piece of that.
    """
    manifest, digest = read_manifest(indexes, pointer.generation)
    folder = indexes / generation_name(pointer.generation)
    if digest != pointer.manifest_sha256:
        raise RefusedGenerationError(f"{folder.name}: its manifest has SHA-256 {digest}, the pointer says another")
    if (manifest.dimension, manifest.metric) != (dimension, metric):
        raise RefusedGenerationError(f"{folder.name} has dimension {manifest.dimension} and metric {manifest.metric}")
    check_files(indexes, manifest, between)
    index = engine.open(folder / INDEX_FILE)
    ids = np.load(folder / IDS_FILE, allow_pickle=False)
    vectors = _exact_vectors(folder, manifest, index)
    if not index.rows == len(ids) == len(vectors) == manifest.count or vectors.shape[1] != dimension:
        raise RefusedGenerationError(f"{folder.name}: {index.rows} vectors, {len(ids)} ids, {manifest.count} announced")
    coarse = Coarse.read(folder / COARSE_FILE) if COARSE_FILE in manifest.files else None
    main = MainIndex(engine, index, ids, vectors, coarse, manifest)
    _check_canaries(main, _canary_vectors(folder, manifest))
    return main


def check_files(indexes: Path, manifest: Manifest, between: Callable[[], object] = lambda: None) -> None:
    """Compare every file of a generation with the manifest's SHA-256; raises RefusedGenerationError."""
    for name, expected in manifest.files.items():
        _check_file(indexes / generation_name(manifest.generation) / name, expected, between)


def generations_in(indexes: Path) -> list[int]:
    """Return the numbers of the generations in the folder, ascending."""
    if not indexes.is_dir():
        return []
    numbers = (parse_generation_name(path.name) for path in indexes.iterdir() if path.is_dir())
    return sorted(number for number in numbers if number is not None)


def prune(indexes: Path, keep: int, needed: set[int]) -> list[int]:
    """Remove all but the newest ``keep`` generations and those that are needed; returns what was removed."""
    removed = [number for number in generations_in(indexes)[:-keep] if number not in needed]
    for number in removed:
        shutil.rmtree(indexes / generation_name(number), ignore_errors=True)
    return removed


def _check_file(path: Path, expected: str, between: Callable[[], object]) -> None:
    try:
        found = sha256_of(path, between)
    except OSError as error:
        raise RefusedGenerationError(f"{path.parent.name}/{path.name} cannot be read: {error.strerror}") from error
    if found != expected:
        raise RefusedGenerationError(
            f"{path.parent.name}/{path.name} has SHA-256 {found}, its manifest says {expected}"
        )


def _exact_vectors(folder: Path, manifest: Manifest, index: Opened) -> Vectors:
    """Return the rows as they were exported, mapped: from a file of their own, or out of an index that holds them."""
    if VECTORS_FILE not in manifest.files:
        return index.stored_vectors()
    vectors: Vectors = np.load(folder / VECTORS_FILE, mmap_mode="r", allow_pickle=False)
    return vectors


def _canary_vectors(folder: Path, manifest: Manifest) -> Vectors:
    vectors: Vectors = np.load(folder / CANARIES_FILE, allow_pickle=False)
    if vectors.shape != (len(manifest.canaries), manifest.dimension):
        raise RefusedGenerationError(f"{folder.name}: {CANARIES_FILE} has shape {vectors.shape}")
    return vectors


def _check_canaries(main: MainIndex, vectors: Vectors) -> None:
    if not len(vectors):
        return
    effort = main.effort(TUNED)
    places = main.search(vectors, 1, 0, effort, main.lists(vectors, effort))
    scores = main.scores(vectors, places)
    best = np.argmax(scores, axis=1)[:, None]
    own = scores_at(main.manifest.metric, vectors, vectors, np.arange(len(vectors))[:, None])
    as_near = np.take_along_axis(scores, best, 1) >= own - _CANARY_TOLERANCE * np.maximum(1.0, np.abs(own))
    found = main.ids_at(np.take_along_axis(places, best, 1))
    right = (found == np.asarray(main.manifest.canaries)[:, None]) | as_near
    wrong = [experience for experience, fine in zip(main.manifest.canaries, right[:, 0], strict=True) if not fine]
    if wrong:
        name = generation_name(main.manifest.generation)
        raise RefusedGenerationError(f"{name}: {len(wrong)} of {len(vectors)} canaries not found, as id {wrong[0]}")
