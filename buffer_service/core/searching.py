"""A search, from the caller's queries to the answer of one view."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from buffer_service.core.columns import Columns
from buffer_service.core.conditions import Filter, parse
from buffer_service.core.embedding import prepare
from buffer_service.core.ranking import Rank, Ranker
from buffer_service.core.recall import RecallCheck
from buffer_service.core.retrievals import Retrievals
from buffer_service.core.serving import Serving
from buffer_service.errors import InvalidRequestError
from buffer_service.index.main import Effort
from buffer_service.index.openmp import spreading
from buffer_service.index.view import Found
from buffer_service.settings import Settings

SEQUENCE_TIMEOUT_S = 2.0
"""Longest wait for a sequence number that a reader asks to see."""


class Searcher:
    """Searches what is served. Any thread."""

    def __init__(
        self,
        settings: Settings,
        serving: Serving,
        columns: Columns,
        ranker: Ranker,
        retrievals: Retrievals,
        check: RecallCheck,
    ) -> None:
        self._settings = settings
        self._serving = serving
        self._columns = columns
        self._ranker = ranker
        self._retrievals = retrievals
        self._check = check
        self._began_at = self._ended_at = 0.0
        """When a search has begun last, and when one has ended."""
        self.searched_s = 0.0
        """What searches have taken since the start; of two that end at once on two threads one may be missing."""

    def searched_since(self, moment: float) -> bool:
        """Tell whether a search has been under way since a moment of ``time.perf_counter``.

        Of some on several threads the one that is under way for longest may be overlooked.
        """
        return self._ended_at >= moment or self._began_at > self._ended_at

    def search(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        min_sequence: int,
        wanted: Filter | None,
        rank: Rank | None,
        effort: Effort,
    ) -> Found:
        """See ``ExperienceBuffer.search``."""
        self._require_limits(queries, k, effort)
        queries = prepare(queries, self._settings.embedding, "a query")
        conditions = parse(wanted) if wanted else []
        rows = k if rank is None else rank.candidates_for(k, self._settings.server.k_max)
        view = self._serving.wait_for(min_sequence, SEQUENCE_TIMEOUT_S)
        self._began_at = began_at = time.perf_counter()
        try:
            with spreading():
                if conditions:
                    found = view.search_among(queries, rows, self._columns.allowed(conditions), effort)
                else:
                    found = view.search(queries, rows, effort)
                    self._check.offer(view, queries, found)
            if rank is not None:
                found = self._ranker.ranked(found, k, rank)
        finally:
            self._ended_at = time.perf_counter()
            self.searched_s += self._ended_at - began_at
        self._retrievals.note(found.ids, searched=True)
        return found

    def _require_limits(self, queries: npt.NDArray[np.float32], k: int, effort: Effort) -> None:
        server, dimension = self._settings.server, self._settings.embedding.dimension
        effort_max = self._settings.index.effort_max
        limits = (
            ("k", k, server.k_max),
            ("number of queries", len(queries), server.rows_max),
            ("probes", effort.probes, effort_max),
            ("ef", effort.ef, effort_max),
        )
        for name, given, limit in limits:
            if given is not None and not 1 <= given <= limit:
                raise InvalidRequestError(f"{name} is {given}; give 1 to {limit}")
        if queries.ndim != 2 or queries.shape[1] != dimension:  # noqa: PLR2004 - rows of vectors
            raise InvalidRequestError(f"queries have shape {queries.shape}, expected (n, {dimension})")
