"""A GPU as FAISS needs it: one thread does everything that touches it, for its indexes are not safe for two.

Classic GPU indexes take no ids, ignore selectors without a word and give at most 2,048 results. So no ids and no
selectors are ever given to one (rows are mapped to ids, and hidden, on the CPU), and what is beyond its limits is
searched on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import faiss
import numpy as np

from buffer_service.index.coarse import inverted_parameters
from buffer_service.index.metric import Positions, Vectors
from buffer_service.index.openmp import prepare_thread

TEMPORARY_BYTES = 256 * 2**20
"""Scratch memory that FAISS reserves on the device for the life of the process."""
RESULTS_MAX = 2048
"""Most neighbours and probes that GPU indexes can give."""
_TEST_ROWS, _TEST_DIMENSION, _TEST_K = 512, 32, 10

T = TypeVar("T")


class Gpu:
    """The first GPU. Raises RuntimeError where it cannot be used or does not find what the CPU finds."""

    def __init__(self) -> None:
        obstacle = gpu_obstacle()
        if obstacle is not None:
            raise RuntimeError(obstacle)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gpu")
        try:
            self._resources = self._do(_resources)
            self._test()
        except RuntimeError:
            self._thread.shutdown()
            raise

    def copy(self, index: Any) -> Any:  # noqa: ANN401 - FAISS has no types
        """Return a copy of a CPU index on the device; raises RuntimeError when it does not fit or has no GPU form."""
        return self._do(lambda: faiss.index_cpu_to_gpu(self._resources, 0, index))

    def search(self, index: Any, queries: Vectors, k: int, effort: int) -> Positions:  # noqa: ANN401
        """Return (n, k) positions, k and effort at most RESULTS_MAX; any thread may call. Raises RuntimeError."""
        return self._do(lambda: _search(index, queries, k, effort))

    def train(self, index: Any, sample: Vectors) -> None:  # noqa: ANN401
        """Train a CPU index that has inverted lists, with its clustering on the device. Raises RuntimeError."""
        self._do(lambda: self._train(index, sample))

    def free(self, index: Any) -> None:  # noqa: ANN401
        """Free a copy soon; does not wait."""
        self._thread.submit(index.reset)

    def close(self) -> None:
        """Stop the thread when it has done what it was given."""
        self._thread.shutdown()

    def _do(self, call: Callable[[], T]) -> T:
        return self._thread.submit(call).result()

    def _train(self, index: Any, sample: Vectors) -> None:  # noqa: ANN401
        prepare_thread()
        empty = faiss.IndexFlat(index.d, index.metric_type)
        centroids = faiss.index_cpu_to_gpu(self._resources, 0, empty)
        index.clustering_index = centroids
        try:
            index.train(sample)
        finally:
            index.clustering_index = None
            centroids.reset()

    def _test(self) -> None:
        rows = np.random.default_rng(0).standard_normal((_TEST_ROWS, _TEST_DIMENSION), np.float32)
        index = faiss.IndexFlatL2(_TEST_DIMENSION)
        index.add(rows)
        copy = self.copy(index)
        found = self.search(copy, rows[:_TEST_K], _TEST_K, 1)
        self.free(copy)
        if not np.array_equal(found, _search(index, rows[:_TEST_K], _TEST_K, 1)):
            raise RuntimeError("the GPU does not find what the CPU finds")


def gpu_obstacle() -> str | None:
    """Return why FAISS cannot use a GPU here, None when it can."""
    if not hasattr(faiss, "StandardGpuResources"):
        return "the installed FAISS has no GPU support (install faiss-gpu)"
    try:
        count = faiss.get_num_gpus()
    except RuntimeError as error:
        return f"FAISS found no usable GPU: {error}"
    return None if count > 0 else "FAISS found no GPU"


def _resources() -> Any:  # noqa: ANN401
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(TEMPORARY_BYTES)
    return resources


def _search(index: Any, queries: Vectors, k: int, effort: int) -> Positions:  # noqa: ANN401
    prepare_thread()
    parameters = inverted_parameters(effort) if hasattr(index, "nprobe") else None
    _, positions = index.search(queries, k, params=parameters)
    found: Positions = positions
    return found
