"""Finding the least effort with which an index reaches the recall floor, on queries that are not among its rows."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_service.contract.generation import Manifest
from buffer_service.index.build import Built
from buffer_service.index.codes import REFINES, cost_ns
from buffer_service.index.engine import Engine, Opened
from buffer_service.index.main import EFFORT_NAMES, REACH_NAME, TUNED_K, MainIndex
from buffer_service.index.metric import COSINE, Ids, Positions, Vectors, exact_positions, nearest, scores_at

_QUERIES = 200
_MARGIN = 0.02
"""The aim is this much above the floor: live queries may be harder, and rows come and go until the next build."""
_LEAST = {"ivf": 2, "hnsw": 16}
"""A row between two centroids is filed in one list and may be looked for in the other first."""
_SEED = 20_240_301
_BLOCK_ROWS = 16_384
_TOLERANCE = 1e-4
_STEPS = 8
"""The effort is at most one part in so many more than one that falls short of the aim."""
_REACHES_PERCENT = (5, 10, 20, 40, 80, 160)
_LOSS_MAX = 0.001
"""What may be lost of the recall by leaving lists out that are beyond reach,"""
_WORTH_WHILE = 0.9
"""and the share of the lists that are then searched from which it is not worth it."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """An index and the parameters to search it with."""

    built: Built
    parameters: dict[str, int]
    recall: float
    """recall@10 with these parameters."""
    compared: int
    """Rows that a search compares by their codes."""
    cost_ns: float
    """About what a search takes beside finding its lists; see ``codes``."""


class Tuner:
    """Finds parameters for indexes of the same rows; the search is the one of the service."""

    def __init__(
        self, engine: Engine, ids: Ids, draft: Manifest, vectors: Vectors, n_probes: int, floor: float
    ) -> None:
        self._engine = engine
        self._ids = ids
        self._draft = draft
        self._n_probes = n_probes
        self.aim = min(1.0, floor + _MARGIN)
        """The recall that is looked for."""
        self._queries = _held_out(vectors, draft.metric)
        self._truth = _truth(vectors, self._queries, draft.metric)

    def tuned(self, built: Built) -> Tuned:
        """Return the parameters that reach the aim at the least cost, or where none do those that find most."""
        lists = {} if built.coarse is None else {"lists": built.coarse.lists}
        refines = REFINES[built.storage] if built.storage else ()
        found = [self._at(built, {**lists, "refine": refine}) for refine in refines] or [self._at(built, {})]
        reached = [tuned for tuned in found if tuned.recall >= self.aim]
        return min(reached, key=lambda tuned: tuned.cost_ns) if reached else max(found, key=lambda tuned: tuned.recall)

    def _at(self, built: Built, parameters: dict[str, int]) -> Tuned:
        """Return the least effort with these parameters, and the least reach with that effort."""
        draft = msgspec.structs.replace(self._draft, parameters=parameters)
        main = MainIndex(self._engine, Opened(built.index), self._ids, built.vectors, built.coarse, draft)
        name = EFFORT_NAMES.get(draft.index_type)
        if name is None or not draft.count:
            return Tuned(built, parameters, self._recall(main, 1, None) if draft.count else 1.0, draft.count, 0.0)
        effort, recall = self._least_effort(main, name)
        parameters = {**parameters, name: effort}
        lists, compared = main.lists(self._queries, effort), 0
        if lists is not None:
            reach, lists, recall = self._least_reach(main, effort, lists, recall)
            parameters |= reach
            compared = draft.count * int(np.count_nonzero(lists >= 0)) // (len(lists) * main.effort_max)
        cost = cost_ns(built.storage, draft.dimension, compared, main.candidates(TUNED_K))
        return Tuned(built, parameters, recall, compared, cost)

    def _least_effort(self, main: MainIndex, name: str) -> tuple[int, float]:
        """Return it and its recall.

        It rises by halves of itself until the aim is reached, or all is searched; then the last step is halved until it
        is an eighth of the effort.
        """
        least = max(_LEAST[self._draft.index_type], self._n_probes if name == "nprobe" else 0)
        effort = min(main.effort_max, least)
        recall = self._recall_at(main, effort)
        below = effort
        while recall < self.aim and effort < main.effort_max:
            below, effort = effort, min(main.effort_max, effort + max(1, effort // 2))
            recall = self._recall_at(main, effort)
        while effort - below > max(1, effort // _STEPS):
            middle = (below + effort) // 2
            reached = self._recall_at(main, middle)
            if reached < self.aim:
                below = middle
            else:
                effort, recall = middle, reached
        return effort, recall

    def _least_reach(
        self, main: MainIndex, effort: int, lists: Positions, recall: float
    ) -> tuple[dict[str, int], Positions, float]:
        """Return the parameter, none where no reach is worth it, the lists that are searched then, and the recall."""
        least = max(recall - _LOSS_MAX, min(recall, self.aim))
        for percent in _REACHES_PERCENT:
            near = main.lists(self._queries, effort, percent)
            if near is None or np.count_nonzero(near >= 0) > _WORTH_WHILE * lists.size:
                break
            reached = self._recall(main, effort, near)
            if reached >= least:
                return {REACH_NAME: percent}, near, reached
        return {}, lists, recall

    def _recall_at(self, main: MainIndex, effort: int) -> float:
        return self._recall(main, effort, main.lists(self._queries, effort))

    def _recall(self, main: MainIndex, effort: int, lists: Positions | None) -> float:
        """Return the share of true neighbours found; a row as near as the true last one counts, so ties do no harm."""
        wanted = min(TUNED_K, len(main.ids))
        scores = main.scores(self._queries, main.search(self._queries, wanted, 0, effort, lists))
        least = self._truth - _TOLERANCE * np.maximum(1.0, np.abs(self._truth))
        found: npt.NDArray[np.bool_] = scores >= least
        return float(np.mean(np.minimum(found.sum(axis=1), wanted) / wanted))


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
        found = scores_at(metric, queries, block, exact_positions(metric, queries, block, TUNED_K))
        scores = np.concatenate([best, found], axis=1)
        best = np.take_along_axis(scores, nearest(scores, TUNED_K), axis=1)
    return best[:, min(TUNED_K, len(vectors)) - 1 :][:, :1]
