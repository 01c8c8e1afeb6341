"""A view: everything a search needs, as it was at one sequence number.

The writer publishes a view with one assignment; a reader takes it once per request. So an answer is always from one
generation, and reads and writes never wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from buffer_service.contract.pointer import Pointer
from buffer_service.index.candidates import Mask, visible
from buffer_service.index.delta import Delta
from buffer_service.index.main import TUNED, Effort, MainIndex
from buffer_service.index.metric import Ids, Positions, Vectors, exact_positions, nearest, scores_at

_WIDENING = 4
SCORED_ROWS_MAX = 8192
"""Up to this many rows that pass a filter are all scored, which is exact and about as quick as a search."""
_SCORES_AT_ONCE = 1 << 20
_SCANNED_ROWS = 1024
"""Rows of a scan that are done in one call, in less than a millisecond; between two of them others get their turn."""


@dataclass(slots=True)
class Found:
    """The answer to n queries: (n, k) int64 ids, -1 where there are fewer, and (n, k) float32 scores, best first.

    Not frozen, for that takes thrice as long to make, and each caller of a batch gets one.
    """

    ids: Ids
    scores: Vectors
    sequence: int
    generation: int


@dataclass(frozen=True, slots=True)
class Allowed:
    """A choice of ids: ``mask`` says it of first_id, first_id + 1 and so on."""

    first_id: int
    mask: Mask

    def among(self, ids: Ids) -> Mask:
        """Return which of the ids are allowed."""
        places = ids - self.first_id
        known = (places >= 0) & (places < len(self.mask))
        return known & self.mask[np.where(known, places, 0)] if len(self.mask) else known


@dataclass(frozen=True, slots=True)
class View:
    """Main, delta and tombstones at one sequence number."""

    sequence: int
    pointer: Pointer
    main: MainIndex | None
    delta: Delta
    delta_rows: int

    def search(self, queries: Vectors, k: int, effort: Effort = TUNED) -> Found:
        """Return the k nearest live rows of each of the (n, dimension) float32 queries, with exact scores.

        Where the effort gives fewer than k rows though there are more, more is searched. Lists that are too far to
        matter are left out, unless a number of them was asked for, or k is more than they were judged by.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if self.main is None:
            return self._merge(queries, k, 0)
        tried = self.main.effort(effort)
        reach_percent = self.main.reach_percent(effort, k) if tried < self.main.effort_max else None
        found = self._merge(queries, k, tried, reach_percent=reach_percent)
        live = len(self.main.ids) - self.main.tombstones + self.delta_rows - self.delta.dead
        return self._completed(found, queries, min(k, max(1, live)), tried)

    def search_among(self, queries: Vectors, k: int, allowed: Allowed, effort: Effort = TUNED) -> Found:
        """Like ``search``, among the rows that are allowed. Few are all scored; the work is bounded either way."""
        queries = np.ascontiguousarray(queries, np.float32)
        fresh = allowed.among(self.delta.ids[: self.delta_rows]) & self.delta.seen(self.delta_rows, self.sequence)
        old = None if self.main is None else allowed.among(self.main.ids) & self.main.seen(self.sequence)
        count = int(np.count_nonzero(fresh)) + (0 if old is None else int(np.count_nonzero(old)))
        if self.main is None or old is None or count <= SCORED_ROWS_MAX:
            return self._score_all(queries, k, fresh, old)
        rows = len(self.main.ids) + self.delta_rows
        tried = min(self.main.effort_max, self.main.effort(effort) * rows // count)
        found = self._merge(queries, k, tried, fresh, old)
        return self._completed(found, queries, min(k, count), tried, fresh, old)

    def vectors_of(self, ids: Ids) -> tuple[Mask, Vectors]:
        """Return which of these ids are in main or delta, live or not, and a row for each, undefined for the others."""
        parts = [(self.delta.ids[: self.delta_rows], self.delta.vectors)]
        if self.main is not None:
            parts.append((self.main.ids, self.main.vectors))
        vectors = np.empty((len(ids), self.delta.vectors.shape[1]), np.float32)
        found = np.zeros(len(ids), bool)
        for known, rows in parts:
            if len(known):
                places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
                here = np.flatnonzero(known[places] == ids)
                vectors[here] = np.take(rows, places[here], axis=0)  # without the interpreter lock: rows may be on disk
                found[here] = True
        return found, vectors

    def exact(self, queries: Vectors, k: int, between: Callable[[], object] = lambda: None) -> Found:
        """Return the true k nearest live rows of each query, by scanning all; ``between`` is called now and then."""
        queries = np.ascontiguousarray(queries, np.float32)
        parts = [(self.delta.ids, self.delta.vectors[: self.delta_rows], self.delta.dead_at)]
        if self.main is not None and len(self.main.ids):
            parts.append((self.main.ids, self.main.vectors, self.main.dead_at))
        ids, scores = [], []
        for part_ids, vectors, dead_at in parts:
            for start in range(0, len(vectors), _SCANNED_ROWS):
                block, dead = vectors[start : start + _SCANNED_ROWS], dead_at[start : start + _SCANNED_ROWS]
                places = _exact_visible(self.delta.metric, queries, block, dead <= self.sequence, k)
                ids.append(part_ids[start + places])
                scores.append(scores_at(self.delta.metric, queries, block, places))
                between()
        if not ids:
            return self._best(np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32), k)
        return self._best(np.concatenate(ids, axis=1), np.concatenate(scores, axis=1), k)

    def _merge(
        self,
        queries: Vectors,
        k: int,
        effort: int,
        fresh: Mask | None = None,
        old: Mask | None = None,
        *,
        reach_percent: int | None = None,
    ) -> Found:
        main = self.main
        lists = None if main is None else main.lists(queries, effort, reach_percent)
        places = self.delta.search(queries, k, self.delta_rows, self.sequence, lists, fresh)
        ids, scores = self.delta.ids[places], self.delta.scores(queries, places)
        if main is not None:
            places = main.search(queries, k, self.sequence, effort, lists, old)
            ids = np.concatenate([main.ids_at(places), ids], axis=1)
            scores = np.concatenate([main.scores(queries, places), scores], axis=1)
        return self._best(ids, scores, k)

    def _completed(
        self,
        found: Found,
        queries: Vectors,
        k: int,
        tried: int,
        fresh: Mask | None = None,
        old: Mask | None = None,
    ) -> Found:
        """Search more for those queries that have fewer than k rows, until they have them or all is searched."""
        while self.main is not None and tried < self.main.effort_max:
            short = np.flatnonzero(found.ids[:, k - 1] < 0)
            if not len(short):
                break
            tried = min(self.main.effort_max, _WIDENING * tried)
            more = self._merge(queries[short], found.ids.shape[1], tried, fresh, old)
            found.ids[short], found.scores[short] = more.ids, more.scores
        return found

    def _score_all(self, queries: Vectors, k: int, fresh: Mask, old: Mask | None) -> Found:
        fresh_places = np.flatnonzero(fresh)
        old_places = np.zeros(0, np.int64) if old is None else np.flatnonzero(old)
        ids = self.delta.ids[fresh_places]
        if self.main is not None:
            ids = np.append(self.main.ids[old_places], ids)
        block = max(1, _SCORES_AT_ONCE // max(1, len(ids)))
        answers = []
        for start in range(0, len(queries), block):
            some = queries[start : start + block]
            scores = self.delta.scores(some, _for_each(fresh_places, len(some)))
            if self.main is not None:
                scores = np.concatenate([self.main.scores(some, _for_each(old_places, len(some))), scores], axis=1)
            answers.append(self._best(np.broadcast_to(ids, scores.shape), scores, k))
        return Found(
            np.concatenate([answer.ids for answer in answers]),
            np.concatenate([answer.scores for answer in answers]),
            self.sequence,
            self.pointer.generation,
        )

    def _best(self, ids: Ids, scores: Vectors, k: int) -> Found:
        best = nearest(scores, k)
        places = best + scores.shape[1] * np.arange(len(scores))[:, None]  # half the time of an index for each axis
        chosen, values = ids.take(places), scores.take(places)
        chosen[values == -np.inf] = -1
        if k > best.shape[1]:
            missing = ((0, 0), (0, k - best.shape[1]))
            chosen = np.pad(chosen, missing, constant_values=-1)
            values = np.pad(values, missing, constant_values=-np.inf)
        return Found(chosen, values, self.sequence, self.pointer.generation)


def _for_each(places: Positions, queries: int) -> Positions:
    return np.ascontiguousarray(np.broadcast_to(places, (queries, len(places))))


def _exact_visible(metric: str, queries: Vectors, rows: Vectors, hidden: Mask, k: int) -> Positions:
    """Return (n, m) positions of the nearest rows that are not hidden, -1 where there are fewer."""
    return visible(
        lambda fetch: exact_positions(metric, queries, rows, fetch),
        lambda positions: hidden[positions],
        k,
        len(rows),
        1.0 - float(np.mean(hidden)),
    )
