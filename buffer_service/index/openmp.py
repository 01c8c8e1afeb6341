"""How many threads FAISS may use for one call.

OpenMP keeps the number for each native thread apart, so every thread that calls FAISS has to set it. One is best in a
server: requests run beside each other already, and a pool for each caller would only get in their way.
"""

from __future__ import annotations

import threading

import faiss

BLAS_THRESHOLD = 2048
"""Queries times dimension from which a scan goes through BLAS; FAISS's own 128,000 is too high for small batches."""

_wanted = 1
_done = threading.local()


def use_threads(count: int) -> None:
    """Set the number for every thread of this process, from each one's next call on."""
    global _wanted  # noqa: PLW0603 - OpenMP's setting belongs to the process as well
    _wanted = count
    faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD


def prepare_thread() -> None:
    """Apply the number to the calling thread; cheap when that was done."""
    if getattr(_done, "count", 0) != _wanted:
        faiss.omp_set_num_threads(_wanted)
        _done.count = _wanted
