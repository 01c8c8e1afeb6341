"""What "near" means. Scores are such that higher is nearer: the cosine, or the negative Euclidean distance."""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

from buffer_service.index.openmp import prepare_thread

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int64]
"""Row numbers; -1 stands for none."""

COSINE = "cosine"
_SORTED_AT_ONCE = 128
"""Up to so many columns a sort is quicker than finding the best and sorting those."""


def faiss_metric(metric: str) -> int:
    """Return FAISS's number for the metric; cosine is the inner product of normalised vectors."""
    return int(faiss.METRIC_INNER_PRODUCT if metric == COSINE else faiss.METRIC_L2)


def scores_at(metric: str, queries: Vectors, rows: Vectors, positions: Positions) -> Vectors:
    """Return the exact (n, k) scores of these rows for n queries, -inf where there is no row.

    ``rows`` may be a mapped file: only the rows that are named are read, and nothing is copied. All arrays contiguous.
    """
    scores = np.full(positions.shape, -np.inf, np.float32)
    if not scores.size or not len(rows):
        return scores
    prepare_thread()
    compute = faiss.fvec_inner_products_by_idx if metric == COSINE else faiss.fvec_L2sqr_by_idx
    pointers = (faiss.swig_ptr(array) for array in (scores, queries, rows, positions))
    compute(*pointers, rows.shape[1], *positions.shape)
    return scores if metric == COSINE else -np.sqrt(scores)


def exact_positions(metric: str, queries: Vectors, rows: Vectors, k: int) -> Positions:
    """Return the (n, k) positions of the nearest rows by scanning all of them, -1 where there are fewer."""
    if not len(rows):
        return np.full((len(queries), k), -1, np.int64)
    prepare_thread()
    _, positions = faiss.knn(queries, rows, k, faiss_metric(metric))
    found: Positions = positions
    return found


def nearest(scores: Vectors, k: int) -> Positions:
    """Return the (n, min(k, m)) column numbers of the best scores of each row, best first; ties by column."""
    columns = scores.shape[1]
    if columns <= max(k, _SORTED_AT_ONCE):
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    chosen = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    chosen.sort(axis=1)
    order = np.argsort(-np.take_along_axis(scores, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1)
