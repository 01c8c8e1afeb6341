"""The delta's inverted lists: fresh rows under the main index's own centroids.

So a fresh row costs a search what an old one costs, or beside 4-bit codes what an old one of 8 bits does. FAISS's lists
move in memory when they grow; a lock, held for the delta's part of a search and for a bounded block of an append, keeps
the two apart.
"""

from __future__ import annotations

import threading
from typing import Any

import faiss

from buffer_service.index.coarse import Coarse, search_lists
from buffer_service.index.codes import REFINES, empty_twin
from buffer_service.index.metric import Positions, Vectors
from buffer_service.index.openmp import PAIRS, prepare_thread

_BLOCK_ROWS = 128
"""Rows appended while a search has to wait; about half a millisecond."""


class Turns:
    """A lock that whoever has just had it does not get again before one that waits for it.

    Python's own goes to who asks first after it is free, and that is who has just let it go: an append of many rows
    would keep a search waiting through all its blocks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.next = threading.Lock()
        """Held by the one that is next."""

    def __enter__(self) -> None:
        with self.next:
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class FreshLists:
    """Rows by the order in which they were appended. One thread appends, any number search."""

    def __init__(self, main: Any, coarse: Coarse) -> None:  # noqa: ANN401 - FAISS has no types
        self.coarse = coarse
        self._main = main
        self._index, storage = empty_twin(main)
        self.refine = REFINES[storage][0]
        """How many times k rows have to be found by their codes, for the exact vectors to rank."""
        self._index.parallel_mode = PAIRS
        self._lock = Turns()

    @property
    def rows(self) -> int:
        """Rows that are filed; asked after a search, no fewer than it may have found."""
        return int(self._index.ntotal)

    def append(self, vectors: Vectors) -> None:
        """File rows; their positions continue those of the rows before."""
        prepare_thread()
        lists = self.coarse.nearest(vectors, 1)
        for start in range(0, len(vectors), _BLOCK_ROWS):
            block, numbers = vectors[start : start + _BLOCK_ROWS], lists[start : start + _BLOCK_ROWS]
            with self._lock:
                self._index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(numbers))

    def search(self, queries: Vectors, k: int, lists: Positions) -> Positions:
        """Return the (n, k) positions of rows in these lists, -1 where there are fewer."""
        with self._lock:
            return search_lists(self._index, queries, k, lists)
