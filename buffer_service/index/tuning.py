"""Finding the least effort with which an index reaches the recall floor, on queries that are not among its rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from buffer_service.contract.generation import Manifest
from buffer_service.index.build import Built
from buffer_service.index.engine import Engine, Opened
from buffer_service.index.main import EFFORT_NAMES, MainIndex
from buffer_service.index.metric import COSINE, Ids, Vectors, exact_positions, nearest, scores_at

_QUERIES = 200
_K = 10
_MARGIN = 0.02
"""The aim is this much above the floor: live queries may be harder, and rows come and go until the next build."""
_LEAST = {"ivf": 2, "hnsw": 16}
"""A row between two centroids is filed in one list and may be looked for in the other first."""
_SEED = 20_240_301
_BLOCK_ROWS = 16_384
_TOLERANCE = 1e-4
_STEPS = 8
"""The effort is at most one part in so many more than one that falls short of the aim."""


def tune(
    engine: Engine, built: Built, ids: Ids, draft: Manifest, n_probes: int, floor: float
) -> tuple[dict[str, int], float]:
    """Return the parameters with the effort added, and the recall@10 that it gives.

    The search is the one of the service. The effort rises by halves of itself until the aim is reached, or all is
    searched; then the last step is halved until it is an eighth of the effort.
    """
    if not draft.count:
        return draft.parameters, 1.0
    queries = _held_out(built.vectors, draft.metric)
    truth = _truth(built.vectors, queries, draft.metric)
    main = MainIndex(engine, Opened(built.index), ids, built.vectors, built.coarse, draft)
    name = EFFORT_NAMES.get(draft.index_type)
    if name is None:
        return draft.parameters, _recall(main, queries, truth, 1)
    least = max(_LEAST[draft.index_type], n_probes if name == "nprobe" else 0)
    effort = min(main.effort_max, least)
    aim = min(1.0, floor + _MARGIN)
    recall = _recall(main, queries, truth, effort)
    below = effort
    while recall < aim and effort < main.effort_max:
        below, effort = effort, min(main.effort_max, effort + max(1, effort // 2))
        recall = _recall(main, queries, truth, effort)
    while effort - below > max(1, effort // _STEPS):
        middle = (below + effort) // 2
        reached = _recall(main, queries, truth, middle)
        if reached < aim:
            below = middle
        else:
            effort, recall = middle, reached
    return {**draft.parameters, name: effort}, recall


def _held_out(vectors: Vectors, metric: str) -> Vectors:
    """Return queries near the data that are not in it: rows moved a little way towards other rows."""
    random = np.random.default_rng(_SEED)
    count = min(_QUERIES, len(vectors))
    some = vectors[np.sort(random.choice(len(vectors), count, replace=False))]
    others = vectors[random.integers(len(vectors), size=count)]
    queries: Vectors = (0.8 * some + 0.2 * others).astype(np.float32)
    if metric == COSINE:
        queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), np.float32(1e-12))
    return queries


def _truth(vectors: Vectors, queries: Vectors, metric: str) -> Vectors:
    """Return the (n, 1) score of the true tenth neighbour of each query: what counts as found."""
    best = np.full((len(queries), 0), 0, np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS]
        found = scores_at(metric, queries, block, exact_positions(metric, queries, block, _K))
        scores = np.concatenate([best, found], axis=1)
        best = np.take_along_axis(scores, nearest(scores, _K), axis=1)
    return best[:, min(_K, len(vectors)) - 1 :][:, :1]


def _recall(main: MainIndex, queries: Vectors, truth: Vectors, effort: int) -> float:
    """Return the share of true neighbours found; rows as near as the true last one count, so that ties do no harm."""
    lists = None if main.coarse is None else main.coarse.nearest(queries, effort)
    wanted = min(_K, len(main.ids))
    scores = main.scores(queries, main.search(queries, wanted, 0, effort, lists))
    found: npt.NDArray[np.bool_] = scores >= truth - _TOLERANCE * np.maximum(1.0, np.abs(truth))
    return float(np.mean(np.minimum(found.sum(axis=1), wanted) / wanted))
