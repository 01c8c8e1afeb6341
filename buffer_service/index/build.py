"""Building a FAISS index from exported rows: type, training, parameters, and the recall it reaches."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from buffer_service.index.metric import Ids, Vectors, exact_scores, faiss_metric, nearest, scores_from_faiss

log = logging.getLogger(__name__)

FLAT_ROWS_MAX = 20_000
"""``auto`` builds a flat index up to this many rows: exact, and quick enough."""
_BLOCK_ROWS = 8192
_TRAINING_ROWS_PER_LIST = 64
_TRAINING_ROWS_MIN = 39
"""FAISS wants at least this many training rows for each list."""
_RECALL_QUERIES = 100
_RECALL_K = 10
_SEED = 20_240_229


class Rows:
    """The live rows of an export, by position; vectors stay in the mapped files."""

    def __init__(self, chunks: list[tuple[Ids, Vectors]], live: Ids, dimension: int) -> None:
        self.dimension = dimension
        self._chunks = [vectors for _, vectors in chunks]
        self._kept = [np.flatnonzero(np.isin(ids, live, assume_unique=True)) for ids, _ in chunks]
        kept_ids = [ids[kept] for (ids, _), kept in zip(chunks, self._kept, strict=True)]
        self.ids: Ids = np.concatenate(kept_ids) if kept_ids else np.zeros(0, np.int64)
        self._starts = np.cumsum([0, *(len(kept) for kept in self._kept)])

    @property
    def count(self) -> int:
        """Number of live rows."""
        return len(self.ids)

    def blocks(self) -> Iterator[Vectors]:
        """Yield all vectors in order of position, in blocks of bounded size."""
        for vectors, kept in zip(self._chunks, self._kept, strict=True):
            for start in range(0, len(kept), _BLOCK_ROWS):
                yield np.ascontiguousarray(vectors[kept[start : start + _BLOCK_ROWS]])

    def at(self, positions: npt.NDArray[np.int64]) -> Vectors:
        """Return the vectors at these positions as (n, dimension) float32."""
        result = np.empty((len(positions), self.dimension), np.float32)
        owner = np.searchsorted(self._starts, positions, side="right") - 1
        for chunk in np.unique(owner):
            mask = owner == chunk
            result[mask] = self._chunks[chunk][self._kept[chunk][positions[mask] - self._starts[chunk]]]
        return result


@dataclass(frozen=True, slots=True)
class Built:
    """A finished index with what was found out about it."""

    index: Any
    index_type: str
    parameters: dict[str, int]
    recall: float


def build_index(rows: Rows, metric: str, index_type: str, n_probes: int, recall_floor: float) -> Built:
    """Build an index over the rows, at least as many probes as asked for, more where the recall floor needs them."""
    chosen = _choose(index_type, rows.count)
    if rows.count == 0:
        return Built(faiss.IndexFlat(rows.dimension, faiss_metric(metric)), chosen, {}, 1.0)
    random = np.random.default_rng(_SEED)
    queries = _held_out(rows, metric, random)
    truth = _exact_neighbours(rows, queries, metric)
    if chosen == "flat":
        index = faiss.IndexFlat(rows.dimension, faiss_metric(metric))
        _add(index, rows)
        return Built(index, chosen, {}, _recall(index, queries, truth, metric, None))
    lists = _list_count(rows.count)
    quantizer = faiss.IndexFlat(rows.dimension, faiss_metric(metric))
    index = faiss.IndexIVFFlat(quantizer, rows.dimension, lists, faiss_metric(metric))
    index.own_fields = True
    quantizer.this.disown()
    sample = random.choice(rows.count, min(rows.count, lists * _TRAINING_ROWS_PER_LIST), replace=False)
    index.train(rows.at(np.sort(sample)))
    _add(index, rows)
    probes = min(n_probes, lists)
    recall = _recall(index, queries, truth, metric, probes)
    while recall < recall_floor and probes < lists:
        probes = min(lists, 2 * probes)
        recall = _recall(index, queries, truth, metric, probes)
    return Built(index, chosen, {"nprobe": probes}, recall)


def _choose(index_type: str, rows: int) -> str:
    if index_type != "auto":
        return index_type if rows >= _TRAINING_ROWS_MIN else "flat"
    chosen = "flat" if rows <= FLAT_ROWS_MAX else "ivf"
    log.info("index type %s: %d rows, flat is used up to %d", chosen, rows, FLAT_ROWS_MAX)
    return chosen


def _list_count(rows: int) -> int:
    return max(1, min(int(4 * np.sqrt(rows)), rows // _TRAINING_ROWS_MIN))


def _add(index: Any, rows: Rows) -> None:  # noqa: ANN401 - FAISS has no types
    for block in rows.blocks():
        index.add(block)


def _held_out(rows: Rows, metric: str, random: np.random.Generator) -> Vectors:
    """Return queries near the data that are not in it: rows moved a little way towards other rows."""
    count = min(_RECALL_QUERIES, rows.count)
    some = rows.at(np.sort(random.choice(rows.count, count, replace=False)))
    others = rows.at(random.integers(rows.count, size=count))
    queries: Vectors = (0.8 * some + 0.2 * others).astype(np.float32)
    if metric == "cosine":
        queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), np.float32(1e-12))
    return queries


def _exact_neighbours(rows: Rows, queries: Vectors, metric: str) -> Vectors:
    """Return the score of the true tenth neighbour of each query, (n,) float32: what counts as found."""
    best = np.full((len(queries), 0), 0, np.float32)
    for block in rows.blocks():
        scores = np.concatenate([best, exact_scores(metric, queries, block)], axis=1)
        best = np.take_along_axis(scores, nearest(scores, _RECALL_K), axis=1)
    return best


def _recall(index: Any, queries: Vectors, truth: Vectors, metric: str, probes: int | None) -> float:  # noqa: ANN401
    """Return the share of true neighbours found; rows as near as the true last one count, so that ties do no harm."""
    k = truth.shape[1]
    parameters = faiss.SearchParametersIVF(nprobe=probes) if probes else None
    distances, positions = index.search(queries, k, params=parameters)
    scores = np.where(positions < 0, -np.inf, scores_from_faiss(metric, distances))
    tolerance = 1e-4 * np.maximum(1.0, np.abs(truth[:, -1:]))
    return float(np.mean(scores >= truth[:, -1:] - tolerance))
