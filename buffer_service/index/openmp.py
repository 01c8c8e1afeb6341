"""How many threads FAISS may use for one call.

OpenMP keeps the number, and the threads, for each native thread apart, so every thread that calls FAISS has to set it.
One is the rule: requests run beside each other already. A thread that says so spreads its calls: a small one over a
team of two, one that compares many rows over the cores.

No more threads wait for work, of all teams together, than there are cores: then each keeps its core for a moment after
its part of a call, and is there for the next. With one more OpenMP lets them all go at once, and to wake them for each
of the steps of a search takes several times what the search takes. So a thread claims them and, when it rests, gives
them up.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import faiss

BLAS_THRESHOLD = 2048
"""Queries times dimension from which a scan goes through BLAS; FAISS's own 128,000 is too high for small batches."""
TEAM = 2
"""Threads for one small call of a thread that spreads its calls."""
MANY_ROWS = 16_384
"""Rows compared, of all queries of a call together, from which it is no small one: about a millisecond on one core."""
CORES_MAX = 8
"""Cores that one call is spread over at most."""
PAIRS = 2
"""FAISS's ``parallel_mode`` that spreads all pairs of a query and a list, so that one query gains as well as many."""

_LOAD = Path("/proc/loadavg")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_SOFT = 1
"""``omp_pause_soft`` of the OpenMP specification: what was set stays set."""

_binary = next(module.__file__ for name, module in sys.modules.items() if name.startswith("faiss._swigfaiss"))
_library = ctypes.CDLL(_binary)
"""Through it the OpenMP is found that FAISS itself uses."""


class _Cores:
    """The cores beside those of the threads that search, and how many of them are claimed."""

    def __init__(self) -> None:
        self.usual = 1
        """Threads for a call that is not spread."""
        self.spare = 0
        self._claimed = 0
        self._lock = threading.Lock()

    def claim(self, most: int) -> int:
        """Return how many are claimed by this, 0 where others have them all."""
        with self._lock:
            claimed = max(0, min(most, self.spare - self._claimed))
            self._claimed += claimed
            return claimed

    def release(self, claimed: int) -> None:
        """Give back what was claimed."""
        with self._lock:
            self._claimed -= claimed


class _Mine(threading.local):
    """What is said for the calling thread."""

    applied = 0
    """The number that OpenMP knows, 0 where none was set."""
    begun = False
    """Whether there are threads that OpenMP keeps for it."""
    claimed = 0
    decides = False
    """Whether it has said itself what is to be spread."""
    large = small = False
    """Whether calls that compare many rows are spread, and whether the others are."""


class _Load:
    """The threads of the machine that run, or would if there were a core."""

    def __init__(self) -> None:
        self.cores = os.cpu_count() or 1
        try:
            self._file = os.open(_LOAD, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # another system
            self._file = -1

    @property
    def running(self) -> int:
        """Return how many there are at this moment, the calling one among them; 0 where that is not known."""
        if self._file < 0:
            return 0
        _, _, _, threads, *_ = os.pread(self._file, 128, 0).split()
        return int(threads.partition(b"/")[0])


_cores = _Cores()
_load = _Load()
_mine = _Mine()


def use_threads(count: int) -> None:
    """Set the number for every thread of this process, from each one's next call on.

    0 means one, and for threads that spread their calls up to CORES_MAX of the cores.
    """
    _cores.usual, _cores.spare = count or 1, 0 if count else cores() - 1
    faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD


def spread(*, small: bool) -> bool:
    """Spread the calling thread's calls from here on; returns False where others have the cores.

    Over a team, ``small`` ones too, or else over all cores those alone that compare many rows.
    """
    if not _mine.claimed:
        _mine.claimed = _cores.claim((TEAM if small else CORES_MAX) - 1)
    _mine.decides = True
    _mine.large = _mine.claimed > 0
    _mine.small = _mine.large and small
    return _mine.large


def core_free() -> bool:
    """Tell whether a core of this machine has nothing to do right now; true where the system does not say.

    Takes a microsecond. It counts cores that only others may use as well, so a team may be slow all the same.
    """
    return _load.running < _load.cores


def alone() -> None:
    """Spread the calling thread's calls no more; the cores stay claimed."""
    _mine.decides = True
    _mine.large = _mine.small = False


def give_up() -> None:
    """End the threads over which the calling thread's calls were spread, for others to have the cores."""
    if _mine.begun:
        _library.omp_pause_resource_all(_SOFT)
    _cores.release(_mine.claimed)
    _mine.applied = _mine.claimed = 0
    _mine.begun = _mine.decides = _mine.large = _mine.small = False


@contextmanager
def spreading() -> Iterator[None]:
    """Spread the calls of the block that compare many rows over the cores that others have not claimed.

    What the calling thread has said itself holds. Threads are begun by such a call and ended with the block.
    """
    if _mine.decides:
        yield
        return
    spread(small=False)
    try:
        yield
    finally:
        give_up()


def prepare_thread(rows: int = 0) -> None:
    """Apply the number to the calling thread, for a call that compares so many rows; cheap when that was done."""
    wanted = TEAM if _mine.small else _cores.usual
    if rows >= MANY_ROWS and _mine.large:
        wanted = 1 + _mine.claimed
    if _mine.applied != wanted:
        faiss.omp_set_num_threads(wanted)
        _mine.applied = wanted
        _mine.begun |= _mine.claimed > 0 and wanted > 1


def cores() -> int:
    """Return how many cores this process may use, by its affinity and by the quota of its control group."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # there is none
        return allowed
