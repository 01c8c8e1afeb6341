"""The rebuild: export in, generation out, pointer moved. The same program runs as a Job and as a local subprocess.

It never opens the live store. Memory stays bounded by the index itself: chunks are read by mmap, a block at a time.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import msgspec
import numpy as np

from buffer_service.contract.generation import (
    CANARIES_FILE,
    COARSE_FILE,
    FORMAT_VERSION,
    IDS_FILE,
    INDEX_FILE,
    VECTORS_FILE,
    Manifest,
)
from buffer_service.contract.pointer import Pointer, successor
from buffer_service.index import generations
from buffer_service.index.build import Built, build_index, recoded
from buffer_service.index.choice import choose
from buffer_service.index.codes import AUTO, PQ4, possible
from buffer_service.index.engine import Engine
from buffer_service.index.errors import PointerConflictError, RecallBelowFloorError
from buffer_service.index.export import ExportManifest, open_chunks, read_export
from buffer_service.index.files import sha256_of, write_index
from buffer_service.index.metric import Ids, Positions
from buffer_service.index.openmp import prepare_thread
from buffer_service.index.pointer_store import PointerStore
from buffer_service.index.rows import Rows
from buffer_service.index.tuning import Tuned, Tuner

log = logging.getLogger(__name__)

_CANARIES = 16
_SWAP_ATTEMPTS = 5
_PQ4_COMPARED_MIN = 2048
"""Rows compared by a search from which other codes are tried; below, there is little to gain."""


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """What to build and how good it has to be. ``device`` is where it will be searched, ``build_on`` where built.

    ``revision`` is that of the pointer when the rebuild was asked for, None for what it is when it begins.
    """

    export: Path
    indexes: Path
    generation: int
    index_type: str
    storage: str
    device: str
    build_on: str
    n_probes: int
    recall_floor: float
    keep: int
    threads: int
    revision: int | None


def rebuild(request: RebuildRequest, pointer: PointerStore, clock: Callable[[], float] = time.time) -> Pointer:
    """Build the generation, publish it and move the pointer to it; returns the pointer as it is then.

    Raises UnusableExportError when a retry would fail again, OSError and PointerConflictError otherwise; the
    generations that are there and the pointer are as before then. A pointer that has gone further is left alone, and
    one that was moved back since the rebuild was asked for: somebody went away from what this one would lead on to.
    """
    started = clock()
    revision = pointer.read().revision if request.revision is None else request.revision
    engine = Engine("cpu", request.threads)
    prepare_thread()
    export = read_export(request.export)
    building = generations.building_folder(request.indexes, request.generation, f"{os.getpid()}-{uuid.uuid4().hex[:8]}")
    log.info("building generation %d from %d rows at watermark %d", request.generation, export.rows, export.watermark)
    try:
        manifest = _build(engine, request, export, building, started, clock)
        digest = generations.publish(building, request.indexes, manifest)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    manifest, _ = generations.read_manifest(request.indexes, request.generation)
    before = pointer.read()
    after = _flip(pointer, manifest, digest, revision, clock)
    removed = generations.prune(request.indexes, request.keep, {before.generation, after.generation})
    log.info(
        "generation %d: %s, recall@10 %.4f, %.1f s; the pointer is at generation %d, revision %d; removed %s",
        manifest.generation,
        manifest.index_type,
        manifest.recall_at_10,
        manifest.build_s,
        after.generation,
        after.revision,
        removed or "none",
    )
    return after


def _build(
    engine: Engine,
    request: RebuildRequest,
    export: ExportManifest,
    building: Path,
    started: float,
    clock: Callable[[], float],
) -> Manifest:
    chunks, live = open_chunks(request.export, export)
    rows = Rows(chunks, live, export.dimension)
    choice = choose(request.index_type, rows.count, _churn(request.indexes, rows.ids), request.device)
    log.info("index type %s: %s", choice.index_type, choice.reason)
    built = build_index(rows, export.metric, choice, request.storage, building, request.build_on)
    draft = Manifest(
        format_version=FORMAT_VERSION,
        generation=request.generation,
        watermark=export.watermark,
        last_id=export.last_id,
        count=rows.count,
        dimension=export.dimension,
        metric=export.metric,
        index_type=choice.index_type,
        reason=choice.reason,
        parameters={},
        files={},
        size_bytes=0,
        faiss_version=faiss.__version__,
        recall_at_10=1.0,
        canaries=[],
        built_at=clock(),
        build_s=0.0,
    )
    tuner = Tuner(engine, rows.ids, draft, built.vectors, request.n_probes, request.recall_floor)
    tuned = _coded(tuner, tuner.tuned(built), request, export.metric)
    if tuned.recall < request.recall_floor:
        raise RecallBelowFloorError(
            f"recall@10 is {tuned.recall:.4f}, the floor {request.recall_floor}: the index is not published; "
            "choose index.type flat, or index.storage fp32"
        )
    canaries = _write(tuned.built, rows, building)
    files = {path.name: path for path in sorted(building.iterdir())}
    return msgspec.structs.replace(
        draft,
        reason=f"{choice.reason}{_of_codes(tuned)}",
        parameters=tuned.parameters,
        recall_at_10=tuned.recall,
        canaries=[int(experience) for experience in rows.ids[canaries]],
        files={name: sha256_of(path) for name, path in files.items()},
        size_bytes=sum(path.stat().st_size for name, path in files.items() if name != VECTORS_FILE),
        build_s=clock() - started,
    )


def _coded(tuner: Tuner, tuned: Tuned, request: RebuildRequest, metric: str) -> Tuned:
    """Return the index with the codes that make searches quickest, where that is left to the build.

    A GPU knows no 4-bit codes. They are tried where a search has to look at so many rows that they may pay.
    """
    built = tuned.built
    asked = request.storage == AUTO and request.device == "cpu" and built.coarse is not None
    if not asked or tuned.compared < _PQ4_COMPARED_MIN or possible(PQ4, len(built.vectors)) != PQ4:
        return tuned
    other = tuner.tuned(recoded(built, metric))
    log.info("%d rows compared by %s, %d by %s", tuned.compared, built.storage, other.compared, other.built.storage)
    if other.recall >= tuner.aim and other.cost_ns < tuned.cost_ns:
        return other
    return tuned


def _of_codes(tuned: Tuned) -> str:
    if tuned.built.coarse is None:
        return ""
    return f"; rows are coded as {tuned.built.storage}, a search compares about {tuned.compared} of them"


def _write(built: Built, rows: Rows, building: Path) -> Positions:
    """Write the files that are not there yet, and return the positions of the canaries."""
    write_index(built.index, building / INDEX_FILE)
    np.save(building / IDS_FILE, rows.ids, allow_pickle=False)
    if built.coarse is not None:
        built.coarse.write(building / COARSE_FILE)
    canaries = np.unique(np.linspace(0, max(0, rows.count - 1), min(_CANARIES, rows.count)).astype(np.int64))
    np.save(building / CANARIES_FILE, rows.at(canaries), allow_pickle=False)
    return canaries


def _churn(indexes: Path, ids: Ids) -> float:
    """Return the share of the rows that are newer than the newest generation on disk, 1 where there is none."""
    before = generations.generations_in(indexes)
    if not before or not len(ids):
        return 1.0
    manifest, _ = generations.read_manifest(indexes, before[-1])
    return float(np.mean(ids > manifest.last_id))


def _flip(pointer: PointerStore, manifest: Manifest, digest: str, revision: int, clock: Callable[[], float]) -> Pointer:
    for _ in range(_SWAP_ATTEMPTS):
        current = pointer.read()
        if current.moved_back_since(revision):
            log.warning("the pointer was moved back to generation %d meanwhile; it stays there", current.generation)
            return current
        if current.generation >= manifest.generation or current.watermark > manifest.watermark:
            return current
        replacement = successor(
            current,
            generation=manifest.generation,
            watermark=manifest.watermark,
            manifest_sha256=digest,
            reason="rebuild",
            now=clock(),
        )
        try:
            pointer.swap(current, replacement)
        except PointerConflictError:
            continue
        return replacement
    raise PointerConflictError(f"the pointer kept moving during {_SWAP_ATTEMPTS} attempts")
