"""What "near" means. Scores are such that higher is nearer: the cosine, or the negative Euclidean distance."""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

COSINE = "cosine"


def faiss_metric(metric: str) -> int:
    """Return FAISS's number for the metric; cosine is the inner product of normalised vectors."""
    return int(faiss.METRIC_INNER_PRODUCT if metric == COSINE else faiss.METRIC_L2)


def scores_from_faiss(metric: str, distances: Vectors) -> Vectors:
    """Turn FAISS's distances (for L2 they are squared) into scores."""
    if metric == COSINE:
        return distances
    return -np.sqrt(np.maximum(distances, 0.0))


def exact_scores(metric: str, queries: Vectors, rows: Vectors) -> Vectors:
    """Return the (n, m) float32 scores of all pairs of n queries and m rows."""
    products: Vectors = queries @ rows.T
    if metric == COSINE:
        return products
    squares = np.einsum("ij,ij->i", queries, queries)[:, None] + np.einsum("ij,ij->i", rows, rows)[None, :]
    distances: Vectors = -np.sqrt(np.maximum(squares - 2.0 * products, 0.0)).astype(np.float32)
    return distances


def nearest(scores: Vectors, k: int) -> npt.NDArray[np.int64]:
    """Return the (n, min(k, m)) column numbers of the best scores of each row, best first; ties by column."""
    columns = scores.shape[1]
    if k < columns:
        chosen = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        chosen.sort(axis=1)
    else:
        chosen = np.broadcast_to(np.arange(columns), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1).astype(np.int64)
