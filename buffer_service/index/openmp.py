"""How many threads FAISS may use for one call.

OpenMP keeps the number for each native thread apart, so every thread that calls FAISS has to set it. One is best for
small calls: requests run beside each other already, and waking others takes as long as the work. A call that compares
many rows is spread over the cores.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import faiss

BLAS_THRESHOLD = 2048
"""Queries times dimension from which a scan goes through BLAS; FAISS's own 128,000 is too high for small batches."""
MANY_ROWS = 16_384
"""Rows compared, of all queries of a call together, from which it is spread: about a millisecond on one core."""
CORES_MAX = 8
"""Cores that one call is spread over at most: each thread that searches has as many of OpenMP's own."""
BY_LISTS = 1
"""FAISS's ``parallel_mode`` that spreads the lists of each query, so that a single one gains as well."""

_QUOTA = Path("/sys/fs/cgroup/cpu.max")

_few = _many = 1
_done = threading.local()


def use_threads(count: int) -> None:
    """Set the number for every thread of this process, from each one's next call on.

    0 means one for calls that compare few rows, and the cores, up to CORES_MAX, for the others.
    """
    global _few, _many
    _few, _many = count or 1, count or min(CORES_MAX, cores())
    faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD


def prepare_thread(rows: int = 0) -> None:
    """Apply the number to the calling thread, for a call that compares so many rows; cheap when that was done."""
    wanted = _many if rows >= MANY_ROWS else _few
    if getattr(_done, "count", 0) != wanted:
        faiss.omp_set_num_threads(wanted)
        _done.count = wanted


def cores() -> int:
    """Return how many cores this process may use, by its affinity and by the quota of its control group."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # there is none
        return allowed
