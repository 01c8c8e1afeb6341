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
from buffer_service.index.codes import PQ4, SQ8, Shape, lists_of, packed, possible, untrained
from buffer_service.index.engine import Opened
from buffer_service.index.gpu import Gpu
from buffer_service.index.metric import Positions, Vectors, faiss_metric
from buffer_service.index.rows import Rows

log = logging.getLogger(__name__)

_BLOCK_ROWS = 8192
_PROGRESS_INTERVAL_S = 5.0
_TRAINING_ROWS_PER_LIST = 64
_CODE_TRAINING_ROWS = 50_000
_FILED_ROWS = 4096
"""Rows on which it is tried how cheaply the nearest centroid can be found."""
_NEIGHBOURS = 32
"""Edges of a row in an HNSW graph."""
_CONSTRUCTION_EFFORT = 80
_SEED = 20_240_229
_GRAPH_CODES = {"fp32": None, "fp16": faiss.ScalarQuantizer.QT_fp16, SQ8: faiss.ScalarQuantizer.QT_8bit}


@dataclass(frozen=True, slots=True)
class Built:
    """A finished index. ``coarse`` is there where it has inverted lists, ``vectors`` are the exact rows by position.

    ``storage`` is how its rows are coded, empty where the index holds the vectors themselves.
    """

    index: Any
    coarse: Coarse | None
    vectors: Vectors
    storage: str = ""


def build_index(rows: Rows, metric: str, choice: Choice, storage: str, folder: Path, build_on: str) -> Built:
    """Build an index of the chosen type; the exact vectors go to a file in the folder unless the index holds them.

    ``storage`` is a wish: what cannot be coded so is coded as ``sq8``. On a GPU inverted lists are trained and
    assigned, for the other types have nothing to train. If it is missing or fails, the CPU builds all the same.
    """
    if choice.index_type == "flat":
        flat = faiss.IndexFlat(rows.dimension, faiss_metric(metric))
        for block in rows.blocks():
            flat.add(block)
        return Built(flat, None, Opened(flat).stored_vectors())
    vectors = rows.write(folder / VECTORS_FILE)
    if choice.index_type == "hnsw":
        storage = storage if storage in _GRAPH_CODES else SQ8
        return Built(_graph(vectors, metric, storage), None, vectors, storage)
    storage = possible(storage, len(vectors))
    index = _inverted(vectors, metric, storage, build_on)
    coarse = Coarse.of(index.quantizer.reconstruct_n(0, index.nlist), metric, _sample(vectors, _FILED_ROWS))
    return Built(index, coarse, vectors, storage)


def recoded(built: Built, metric: str) -> Built:
    """Return the same rows in the same inverted lists, coded as ``pq4``."""
    lists = lists_of(built.index)[:, None]
    quantizer = faiss.clone_index(built.index.quantizer)
    index = untrained(Shape(built.vectors.shape[1], built.index.nlist, metric), PQ4, quantizer)
    index.train(_training_rows(index, built.vectors))
    _add(index, built.vectors, lambda start, block: lists[start : start + len(block)])
    return Built(packed(index), built.coarse, built.vectors, PQ4)


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
    return packed(index)


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
        _add(index, vectors, lambda _, block: gpu.search(centroids, block, 1, 1))
    finally:
        gpu.free(centroids)
    log.info("%d lists were trained and filled with a GPU", index.nlist)
    return packed(index)


def _untrained(vectors: Vectors, metric: str, storage: str) -> Any:  # noqa: ANN401
    count, dimension = vectors.shape
    lists = max(1, min(int(4 * np.sqrt(count)), count // IVF_ROWS_MIN))
    return untrained(Shape(dimension, lists, metric), storage, faiss.IndexFlat(dimension, faiss_metric(metric)))


def _training_rows(index: Any, vectors: Vectors) -> Vectors:  # noqa: ANN401
    return _sample(vectors, index.nlist * _TRAINING_ROWS_PER_LIST)


def _graph(vectors: Vectors, metric: str, storage: str) -> Any:  # noqa: ANN401
    code = _GRAPH_CODES[storage]
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


def _add(
    index: Any,  # noqa: ANN401
    vectors: Vectors,
    filed_in: Callable[[int, Vectors], Positions] | None = None,
) -> None:
    """Add all rows; ``filed_in`` tells the (n, 1) inverted lists of a block from its start, else FAISS finds them."""
    started = time.monotonic()
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK_ROWS])
        if filed_in is None:
            index.add(block)
        else:
            lists = np.ascontiguousarray(filed_in(start, block))
            index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(lists))
        if time.monotonic() - started >= _PROGRESS_INTERVAL_S:
            log.info("%d of %d rows added", index.ntotal, len(vectors))
            started = time.monotonic()
