"""How inverted lists code their rows: what FAISS calls each code, how exact it is, and what comparing a row costs.

Codes only choose candidates; the exact vectors rank them. ``pq4`` keeps four bits for every few dimensions and compares
them in registers, many rows at once (FAISS's fast scan, after André, Kermarrec and Le Scouarnec, "Cache locality is not
enough", VLDB 2015). With 512 dimensions it is ten times as quick as ``sq8`` and needs four to sixteen times as
many candidates, so it is worth it where a search has to look at thousands of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from buffer_service.index.metric import Positions, faiss_metric

AUTO, SQ8, PQ4 = "auto", "sq8", "pq4"
REFINES = {"fp32": (1,), "fp16": (1,), SQ8: (2,), PQ4: (8, 16, 32)}
"""How many times k rows are found by their codes, to be ranked by their exact vectors; a build takes the cheapest."""
_SCALAR = {"fp16": faiss.ScalarQuantizer.QT_fp16, SQ8: faiss.ScalarQuantizer.QT_8bit}
_PQ4_ROWS_MIN = 1000
"""FAISS wants about this many rows to train 4-bit codes."""
_PARTS_MAX = 128
_DIMENSIONS_PER_PART_MAX = 4
"""A vector is cut into equal parts of four bits each: up to _PARTS_MAX, more where parts would be longer than this."""
_ROW_NS = {"fp32": 0.28, "fp16": 0.16, SQ8: 0.12, PQ4: 0.04}
"""What comparing a row by its code takes, for each dimension or part of ``pq4``; see ``make bench ARGS=codes``."""
_CANDIDATE_NS = 0.25
"""What ranking a row by its exact vector takes, for each dimension,"""
_FETCH_NS = 50.0
"""and for finding it in memory."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What inverted lists are made for."""

    dimension: int
    lists: int
    metric: str


def possible(storage: str, rows: int) -> str:
    """Return the code to begin with where this one is asked for: ``auto`` is decided later, ``pq4`` needs training."""
    return SQ8 if storage == AUTO or (storage == PQ4 and rows < _PQ4_ROWS_MIN) else storage


def cost_ns(storage: str, dimension: int, compared: int, candidates: int) -> float:
    """Return about what a search takes that compares so many rows by their codes and ranks so many exactly."""
    row_ns = _ROW_NS[storage] * (_parts(dimension) if storage == PQ4 else dimension)
    return row_ns * compared + (_FETCH_NS + _CANDIDATE_NS * dimension) * candidates


def untrained(shape: Shape, storage: str, quantizer: Any) -> Any:  # noqa: ANN401 - FAISS has no types
    """Return an inverted-list index that owns its flat quantizer; ``packed`` makes it ready for searching."""
    given = (quantizer, shape.dimension, shape.lists)
    metric = faiss_metric(shape.metric)
    if storage == "fp32":
        index = faiss.IndexIVFFlat(*given, metric)
    elif storage == PQ4:
        index = faiss.IndexIVFPQ(*given, _parts(shape.dimension), 4, metric)
    else:
        index = faiss.IndexIVFScalarQuantizer(*given, _SCALAR[storage], metric)
    index.by_residual = False  # see Coarse
    index.own_fields = True
    quantizer.this.disown()
    return index


def packed(index: Any) -> Any:  # noqa: ANN401
    """Return a filled index in the form in which it is searched; the one given is used up."""
    if not isinstance(index, faiss.IndexIVFPQ):
        return index
    result = faiss.IndexIVFPQFastScan(index)
    index.own_fields = False
    result.own_fields = True
    return result


def lists_of(index: Any) -> Positions:  # noqa: ANN401
    """Return the (rows,) numbers of the inverted lists that hold each row, by position."""
    lists = np.empty(index.ntotal, np.int64)
    for number in range(index.nlist):
        size = index.invlists.list_size(number)
        if size:
            lists[faiss.rev_swig_ptr(index.invlists.get_ids(number), size)] = number
    return lists


def in_rows(index: Any, compared: int) -> int:  # noqa: ANN401
    """Return how many rows of eight bits take as long to compare as so many rows of this index."""
    if not isinstance(index, faiss.IndexIVFFastScan):
        return compared
    return int(compared * cost_ns(PQ4, index.d, 1, 0) / cost_ns(SQ8, index.d, 1, 0))


def empty_twin(main: Any) -> tuple[Any, str]:  # noqa: ANN401
    """Return an index with the main index's centroids and no rows, and its code; it must not outlive the main index.

    The code is the main index's, but for ``pq4``: that looks at no fewer than 32 places of a list, however few rows it
    has, and a row just added has to be found whatever its neighbours are. Fresh rows are in half precision then.
    """
    shape = (main.quantizer, main.d, main.nlist)
    storage = code_of(main)
    if storage == "fp32":
        twin = faiss.IndexIVFFlat(*shape, main.metric_type)
    else:
        storage = "fp16" if storage == PQ4 else storage
        twin = faiss.IndexIVFScalarQuantizer(*shape, _SCALAR[storage], main.metric_type)
        twin.by_residual = False
    if storage == SQ8:
        twin.sq = main.sq
    twin.is_trained = True
    return twin, storage


def code_of(index: Any) -> str:  # noqa: ANN401
    """Return how an index codes its rows; those without inverted lists count as fp32."""
    if isinstance(index, faiss.IndexIVFFastScan):
        return PQ4
    if isinstance(index, faiss.IndexIVFScalarQuantizer):
        return next(name for name, kind in _SCALAR.items() if kind == index.sq.qtype)
    return "fp32"


def _parts(dimension: int) -> int:
    parts = [dimension // size for size in range(1, _DIMENSIONS_PER_PART_MAX + 1) if dimension % size == 0]
    return max((count for count in parts if count <= _PARTS_MAX), default=min(parts))
