"""Building a FAISS index from exported rows: training and coding, on the CPU or with a GPU's help.

Memory is bounded by the index itself: vectors are read from mapped files, a block at a time. A GPU finds the centroids
and the list of each row, which is nearly all the work; the index is filled on the CPU, and is the same either way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from buffer_service.contract.generation import VECTORS_FILE
from buffer_service.index.choice import IVF_ROWS_MIN, Choice
from buffer_service.index.coarse import Coarse
from buffer_service.index.engine import Opened
from buffer_service.index.gpu import Gpu
from buffer_service.index.metric import Positions, Vectors, faiss_metric
from buffer_service.index.rows import Rows

log = logging.getLogger(__name__)

_BLOCK_ROWS = 8192
_PROGRESS_INTERVAL_S = 5.0
_TRAINING_ROWS_PER_LIST = 64
_CODE_TRAINING_ROWS = 50_000
_NEIGHBOURS = 32
"""Edges of a row in an HNSW graph."""
_CONSTRUCTION_EFFORT = 80
_SEED = 20_240_229
CODES = {"fp32": None, "fp16": faiss.ScalarQuantizer.QT_fp16, "sq8": faiss.ScalarQuantizer.QT_8bit}
"""How rows are coded in an index that is not flat."""
_REFINE = {"fp32": 1, "fp16": 1, "sq8": 2}
"""How many times k rows are found by their codes, to be ranked by their exact vectors."""


@dataclass(frozen=True, slots=True)
class Built:
    """A finished index. ``coarse`` is there where it has inverted lists, ``vectors`` are the exact rows by position."""

    index: Any
    coarse: Coarse | None
    vectors: Vectors


def build_index(rows: Rows, metric: str, choice: Choice, storage: str, folder: Path, build_on: str) -> Built:
    """Build an index of the chosen type; the exact vectors go to a file in the folder unless the index holds them.

    On a GPU inverted lists are trained and assigned, for the other types have nothing to train. If it is missing or
    fails, the CPU builds all the same.
    """
    if choice.index_type == "flat":
        flat = faiss.IndexFlat(rows.dimension, faiss_metric(metric))
        for block in rows.blocks():
            flat.add(block)
        return Built(flat, None, Opened(flat).stored_vectors())
    vectors = rows.write(folder / VECTORS_FILE)
    if choice.index_type == "hnsw":
        return Built(_graph(vectors, metric, storage), None, vectors)
    index = _inverted(vectors, metric, storage, build_on)
    return Built(index, Coarse.of(index.quantizer.reconstruct_n(0, index.nlist), metric), vectors)


def parameters_of(built: Built, storage: str) -> dict[str, int]:
    """Return the search parameters that follow from how the index was built; the effort is found later."""
    if isinstance(built.index, faiss.IndexFlat):
        return {}
    lists = {} if built.coarse is None else {"lists": built.coarse.lists}
    return {**lists, "refine": _REFINE[storage]}


def _inverted(vectors: Vectors, metric: str, storage: str, build_on: str) -> Any:  # noqa: ANN401 - FAISS has no types
    gpu = _gpu() if build_on == "gpu" else None
    if gpu is not None:
        with closing(gpu):
            try:
                return _filled_with(gpu, vectors, metric, storage)
            except RuntimeError:
                log.warning("the GPU failed; the index is built on the CPU", exc_info=True)
    index = _untrained(vectors, metric, storage)
    index.train(_training_rows(index, vectors))
    _add(index, vectors)
    return index


def _gpu() -> Gpu | None:
    try:
        return Gpu()
    except RuntimeError as error:
        log.warning("the index is built on the CPU although the GPU was asked for: %s", error)
        return None


def _filled_with(gpu: Gpu, vectors: Vectors, metric: str, storage: str) -> Any:  # noqa: ANN401
    index = _untrained(vectors, metric, storage)
    gpu.train(index, _training_rows(index, vectors))
    centroids = gpu.copy(index.quantizer)
    try:
        _add(index, vectors, lambda block: gpu.search(centroids, block, 1, 1))
    finally:
        gpu.free(centroids)
    log.info("%d lists were trained and filled with a GPU", index.nlist)
    return index


def _untrained(vectors: Vectors, metric: str, storage: str) -> Any:  # noqa: ANN401
    count, dimension = vectors.shape
    lists = max(1, min(int(4 * np.sqrt(count)), count // IVF_ROWS_MIN))
    quantizer = faiss.IndexFlat(dimension, faiss_metric(metric))
    code = CODES[storage]
    if code is None:
        index = faiss.IndexIVFFlat(quantizer, dimension, lists, faiss_metric(metric))
    else:
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, dimension, lists, code, faiss_metric(metric), False  # noqa: FBT003 - no residuals, see Coarse
        )  # fmt: skip
    index.own_fields = True
    quantizer.this.disown()
    return index


def _training_rows(index: Any, vectors: Vectors) -> Vectors:  # noqa: ANN401
    return _sample(vectors, index.nlist * _TRAINING_ROWS_PER_LIST)


def _graph(vectors: Vectors, metric: str, storage: str) -> Any:  # noqa: ANN401
    code = CODES[storage]
    shape = (vectors.shape[1],) if code is None else (vectors.shape[1], code)
    kind = faiss.IndexHNSWFlat if code is None else faiss.IndexHNSWSQ
    index = kind(*shape, _NEIGHBOURS, faiss_metric(metric))
    index.hnsw.efConstruction = _CONSTRUCTION_EFFORT
    index.train(_sample(vectors, _CODE_TRAINING_ROWS))
    _add(index, vectors)
    return index


def _sample(vectors: Vectors, size: int) -> Vectors:
    count = len(vectors)
    chosen = np.random.default_rng(_SEED).choice(count, min(count, size), replace=False)
    return np.ascontiguousarray(vectors[np.sort(chosen)])


def _add(index: Any, vectors: Vectors, lists_of: Callable[[Vectors], Positions] | None = None) -> None:  # noqa: ANN401
    """Add all rows; ``lists_of`` tells the (n, 1) inverted lists of a block, which else the index finds itself."""
    started = time.monotonic()
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK_ROWS])
        if lists_of is None:
            index.add(block)
        else:
            lists = np.ascontiguousarray(lists_of(block))
            index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(lists))
        if time.monotonic() - started >= _PROGRESS_INTERVAL_S:
            log.info("%d of %d rows added", index.ntotal, len(vectors))
            started = time.monotonic()
