"""Which inverted lists a vector belongs to: the step that the main index and the delta share.

The centroids are compared in a 4-bit product-quantised form first, and the best of those exactly; that takes a third of
the time of comparing all of them, and a search and the filing of a new row agree because both come through here.
Immutable, so any number of threads may ask.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from buffer_service.index.codes import in_rows
from buffer_service.index.files import write_index
from buffer_service.index.metric import Positions, Vectors, faiss_metric
from buffer_service.index.openmp import prepare_thread

_QUANTISED_FROM = 640
"""Fewer centroids are compared exactly at once; FAISS wants about this many to train 4-bit codes."""
_PARTS_MAX = 128
_DIMENSIONS_PER_PART = range(2, 17)
"""Shorter parts are no cheaper than the vector itself, longer ones tell too little."""
_EXACT_MIN = 16
_EXACT_PER_PROBE = 4
"""How many of the best are compared exactly: so many for each list asked for,"""
_EXACT_MORE_MAX = 128
"""but no more than this beyond what is asked for: of many lists the last matter little."""
_EXACT_LISTS_MAX = 64
"""Lists beyond which ``roughly`` compares none exactly; no fewer than _EXACT_MIN."""


class Coarse:
    """The centroids of the inverted lists."""

    def __init__(self, index: Any) -> None:  # noqa: ANN401 - FAISS has no types
        self._index = index
        self._codes = faiss.downcast_index(index.base_index) if isinstance(index, faiss.IndexRefine) else None

    @classmethod
    def of(cls, centroids: Vectors, metric: str) -> Coarse:
        """Make it from the (lists, dimension) centroids."""
        count, dimension = centroids.shape
        parts = _parts(dimension)
        if count < _QUANTISED_FROM or not parts:
            exact = faiss.IndexFlat(dimension, faiss_metric(metric))
            exact.add(centroids)
            return cls(exact)
        codes = faiss.IndexPQFastScan(dimension, parts, 4, faiss_metric(metric))
        codes.train(centroids)
        codes.add(centroids)
        index = faiss.IndexRefineFlat(codes, faiss.swig_ptr(centroids))
        index.own_fields = True
        codes.this.disown()
        return cls(index)

    @classmethod
    def read(cls, path: Path) -> Coarse:
        """Read what ``write`` wrote."""
        return cls(faiss.read_index(str(path)))

    def write(self, path: Path) -> None:
        """Write it to a file of FAISS's format."""
        write_index(self._index, path)

    @property
    def lists(self) -> int:
        """Number of inverted lists."""
        return int(self._index.ntotal)

    def nearest(self, vectors: Vectors, probes: int, *, roughly: bool = False, reach: float | None = None) -> Positions:
        """Return the (n, m) numbers of the lists nearest to each vector, nearest first; m <= probes <= lists.

        ``roughly``, many lists are told by the codes of their centroids alone. The one in which a vector is filed is
        still among them; of the farthest some are others, and the fewer the more there are. With ``reach`` those are
        left out, -1 in their place, whose squared distance is more than the nearest's by more than this share of it
        (Chen et al., "SPANN", NeurIPS 2021, section 3.3); else m is ``probes``.
        """
        prepare_thread()
        if self._codes is None:
            distances, numbers = self._index.search(vectors, probes)
        elif roughly and probes > _EXACT_LISTS_MAX:
            distances, numbers = self._codes.search(vectors, probes)
        else:
            distances, numbers = self._index.search(vectors, probes, params=_refined(self.lists, probes))
        found: Positions = numbers
        return found if reach is None or probes == 1 else self._within(reach, distances, found)

    def _within(self, reach: float, distances: Vectors, numbers: Positions) -> Positions:
        """Return the lists within reach of each vector, -1 for the others, and no more columns than are needed."""
        nearest = distances[:, :1]
        if self._index.metric_type == faiss.METRIC_INNER_PRODUCT:  # of unit vectors: squared distance / 2 = 1 - product
            near = distances >= nearest - reach * (1 - nearest)
        else:
            near = distances <= (1 + reach) * nearest
        near[:, 0] = True  # whatever rounding says
        columns = int(near.sum(axis=1).max())
        return np.where(near[:, :columns], numbers[:, :columns], -1)


def _parts(dimension: int) -> int:
    """Return into how many parts a vector is cut for its 4-bit codes, 0 where it cannot be."""
    possible = (dimension // size for size in _DIMENSIONS_PER_PART if dimension % size == 0)
    return max((parts for parts in possible if parts <= _PARTS_MAX), default=0)


def search_lists(index: Any, vectors: Vectors, k: int, lists: Positions) -> Positions:  # noqa: ANN401
    """Search an inverted-list index in the given (n, probes) lists; returns (n, k) positions, -1 where fewer.

    The index must not code residuals: then the distances to the centroids, which nobody computes here, are not needed.
    """
    count, probes = lists.shape
    prepare_thread(in_rows(index, index.ntotal * count * probes // index.nlist))
    positions = np.empty((count, k), np.int64)
    distances = np.empty((count, k), np.float32)
    unused = np.zeros(lists.shape, np.float32)
    pointers = [faiss.swig_ptr(array) for array in (lists, unused, distances, positions)]
    store_pairs = False
    index.search_preassigned_c(count, faiss.swig_ptr(vectors), k, *pointers, store_pairs, inverted_parameters(probes))
    return positions


@lru_cache(4096)
def inverted_parameters(probes: int) -> Any:  # noqa: ANN401
    """Return FAISS's parameters of a search in so many lists. Shared by all threads: nobody may change them."""
    return faiss.SearchParametersIVF(nprobe=probes)


@lru_cache(4096)
def _refined(lists: int, probes: int) -> Any:  # noqa: ANN401
    compared = min(lists, max(_EXACT_MIN, min(_EXACT_PER_PROBE * probes, probes + _EXACT_MORE_MAX)))
    return faiss.IndexRefineSearchParameters(k_factor=compared / probes)
