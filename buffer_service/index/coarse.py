"""Which inverted lists a vector belongs to: the step that the main index and the delta share.

The centroids are compared in a 4-bit product-quantised form first, and the best of those exactly; that takes a quarter
to a half of the time of comparing all of them, and a search and the filing of a new row agree because both come through
here. Immutable, so any number of threads may ask.
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
_SHAPES = ((32, (8, 16)), (64, (16,)), (128, (16, 32)))
"""Into how many parts of 4 bits a centroid is cut at most, and how many are compared exactly at least: the first is the
cheapest, and does where centroids are far from each other."""
_DIMENSIONS_PER_PART = range(2, 17)
"""Shorter parts are no cheaper than the vector itself, longer ones tell too little."""
_AGREEMENT = 0.999
"""Share of the rows that have to be filed in the list that is truly nearest."""
_EXACT_PER_PROBE = 4
"""How many of the best are compared exactly: so many for each list asked for,"""
_EXACT_MORE_MAX = 128
"""but no more than this beyond what is asked for: of many lists the last matter little."""
_EXACT_LISTS_MAX = 64
"""Lists beyond which ``roughly`` compares none exactly; no fewer than are compared exactly at least."""
_TRIMMED_FROM = 8
"""Lists from which it is quicker to look how many columns are needed than to pass over each that is not."""


class Coarse:
    """The centroids of the inverted lists."""

    def __init__(self, index: Any) -> None:  # noqa: ANN401 - FAISS has no types
        self._index = index
        self._codes, self._exact_min = None, 0
        if isinstance(index, faiss.IndexRefine):
            self._codes, self._exact_min = faiss.downcast_index(index.base_index), int(index.k_factor)

    @classmethod
    def of(cls, centroids: Vectors, metric: str, rows: Vectors) -> Coarse:
        """Make it from the (lists, dimension) centroids, as cheap to ask as does for such rows."""
        count, dimension = centroids.shape
        flat = faiss.IndexFlat(dimension, faiss_metric(metric))
        flat.add(centroids)
        made = exact = cls(flat)
        if count < _QUANTISED_FROM:
            return exact
        true = exact.nearest(rows, 1)
        for parts_max, exact_counts in _SHAPES:
            parts = _parts(dimension, parts_max)
            if not parts:
                continue
            index = _coded(centroids, metric, parts)
            for exact_min in exact_counts:
                index.k_factor = exact_min
                made = cls(index)
                if np.mean(made.nearest(rows, 1) == true) >= _AGREEMENT:
                    return made
        return made

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
            refined = _refined(self.lists, probes, self._exact_min)
            distances, numbers = self._index.search(vectors, probes, params=refined)
        found: Positions = numbers
        return found if reach is None or probes == 1 else self._within(reach, distances, found)

    def _within(self, reach: float, distances: Vectors, numbers: Positions) -> Positions:
        """Return the lists within reach of each vector, -1 for the others; of many columns none without a list."""
        nearest = distances[:, :1]
        if self._index.metric_type == faiss.METRIC_INNER_PRODUCT:  # of unit vectors: squared distance / 2 = 1 - product
            near = distances >= nearest - reach * (1 - nearest)
        else:
            near = distances <= (1 + reach) * nearest
        near[:, 0] = True  # whatever rounding says
        if near.shape[1] >= _TRIMMED_FROM:
            columns = int(near.sum(axis=1).max())
            near, numbers = near[:, :columns], numbers[:, :columns]
        return np.where(near, numbers, -1)


def _parts(dimension: int, most: int) -> int:
    """Return into how many parts, at most so many, a vector is cut for its 4-bit codes, 0 where it cannot be."""
    possible = (dimension // size for size in _DIMENSIONS_PER_PART if dimension % size == 0)
    return max((parts for parts in possible if parts <= most), default=0)


def _coded(centroids: Vectors, metric: str, parts: int) -> Any:  # noqa: ANN401
    codes = faiss.IndexPQFastScan(centroids.shape[1], parts, 4, faiss_metric(metric))
    codes.train(centroids)
    codes.add(centroids)
    index = faiss.IndexRefineFlat(codes, faiss.swig_ptr(centroids))
    index.own_fields = True
    codes.this.disown()
    return index


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
def _refined(lists: int, probes: int, exact_min: int) -> Any:  # noqa: ANN401
    compared = min(lists, max(exact_min, min(_EXACT_PER_PROBE * probes, probes + _EXACT_MORE_MAX)))
    return faiss.IndexRefineSearchParameters(k_factor=compared / probes)
