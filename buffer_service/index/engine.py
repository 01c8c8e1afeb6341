"""Where FAISS runs. One engine per process decides between GPU and CPU, once, and says why.

A GPU index is touched (copied, searched, freed) by one thread only: FAISS's GPU indexes are not safe for concurrent
use, not even for reading. CPU indexes may be searched by any number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import faiss

from buffer_service.contract.status import Backend
from buffer_service.index.metric import Ids, Vectors

log = logging.getLogger(__name__)

GPU_TEMPORARY_BYTES = 256 * 2**20
"""Scratch memory that FAISS reserves on the device for the life of the process."""
GPU_RESULTS_MAX = 2048
"""Most neighbours and probes that GPU indexes can give."""

T = TypeVar("T")


class Engine:
    """Opens FAISS indexes and searches them on the device that was chosen."""

    def __init__(self, requested: str) -> None:
        faiss.omp_set_num_threads(1)
        reason = "the CPU was asked for" if requested == "cpu" else gpu_obstacle()
        self._resources: Any = None
        self._device_thread: ThreadPoolExecutor | None = None
        if reason is None:
            self._device_thread = ThreadPoolExecutor(1, thread_name_prefix="gpu")
            self._resources = self._on_device(_gpu_resources)
            self.backend = Backend(requested=requested, active="gpu", reason="a GPU is there and usable")
            return
        self.backend = Backend(requested=requested, active="cpu", reason=reason)
        if requested == "gpu":
            log.warning("FAISS runs on the CPU although the GPU was asked for: %s", reason)

    def open(self, path: Path) -> Any:  # noqa: ANN401 - FAISS has no types
        """Open an index file by mmap, and copy it to the GPU where that is in use."""
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        if self._resources is None:
            return index
        return self._on_device(lambda: faiss.index_cpu_to_gpu(self._resources, 0, index))

    def search(self, index: Any, queries: Vectors, k: int, n_probes: int | None) -> tuple[Vectors, Ids]:  # noqa: ANN401
        """Return FAISS's (n, k) distances and positions (-1 where there are fewer); any thread may call."""
        if self._resources is None:
            return _search(index, queries, k, n_probes)
        limited = min(k, GPU_RESULTS_MAX)
        return self._on_device(lambda: _search(index, queries, limited, n_probes))

    def release(self, index: Any) -> None:  # noqa: ANN401
        """Free an index that nobody searches any more."""
        if self._resources is not None:
            self._on_device(index.reset)

    def close(self) -> None:
        """Stop the device thread."""
        if self._device_thread is not None:
            self._device_thread.shutdown()

    def _on_device(self, call: Callable[[], T]) -> T:
        if self._device_thread is None:
            raise RuntimeError("no device is in use")
        return self._device_thread.submit(call).result()


def gpu_obstacle() -> str | None:
    """Return why FAISS cannot use a GPU here, None when it can."""
    if not hasattr(faiss, "StandardGpuResources"):
        return "the installed FAISS has no GPU support (install faiss-gpu)"
    try:
        count = faiss.get_num_gpus()
    except RuntimeError as error:
        return f"FAISS found no usable GPU: {error}"
    return None if count > 0 else "FAISS found no GPU"


def _gpu_resources() -> Any:  # noqa: ANN401
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(GPU_TEMPORARY_BYTES)
    return resources


def _search(index: Any, queries: Vectors, k: int, n_probes: int | None) -> tuple[Vectors, Ids]:  # noqa: ANN401
    parameters = faiss.SearchParametersIVF(nprobe=n_probes) if n_probes else None
    distances, positions = index.search(queries, k, params=parameters)
    return distances, positions
