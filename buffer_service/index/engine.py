"""Where FAISS runs. One engine per process decides between GPU and CPU and says why.

Every index stays open on the CPU, mapped, so that the CPU can take over at any time: while a copy does not fit on the
GPU, for requests beyond the GPU's limits, and for good when the GPU fails.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from buffer_service.contract.status import Backend
from buffer_service.index.coarse import inverted_parameters, search_lists
from buffer_service.index.gpu import RESULTS_MAX, Gpu
from buffer_service.index.metric import Positions, Vectors
from buffer_service.index.openmp import PAIRS, prepare_thread, use_threads

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Opened:
    """An index file that was opened: mapped on the CPU, and its copy on the GPU where there is one."""

    cpu: Any
    device: Any = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.cpu.ntotal)

    def stored_vectors(self) -> Vectors:
        """Return the rows of an index that holds them exactly and in order, (rows, dimension), without a copy."""
        size = self.cpu.ntotal * self.cpu.d
        flat = faiss.rev_swig_ptr(self.cpu.get_xb(), size) if size else np.zeros(0, np.float32)
        vectors: Vectors = flat.reshape(self.cpu.ntotal, self.cpu.d)
        return vectors


class Engine:
    """Opens FAISS indexes and searches them. ``backend`` says where, at this moment."""

    def __init__(self, requested: str, threads: int = 1) -> None:
        use_threads(threads)
        self._requested = requested
        self._gpu: Gpu | None = None
        self._lost = False
        self.backend = self._on("cpu", "the CPU was asked for")
        if requested == "cpu":
            return
        try:
            self._gpu = Gpu()
            self.backend = self._on("gpu", "a GPU is there and usable")
        except RuntimeError as error:
            self.backend = self._on("cpu", str(error))
            if requested == "gpu":
                log.warning("FAISS runs on the CPU although the GPU was asked for: %s", error)

    @property
    def fell_back(self) -> bool:
        """Whether the CPU searches although it was not asked for."""
        return self.backend.active == "cpu" and self._requested != "cpu"

    def open(self, path: Path) -> Opened:
        """Open an index file by mmap, and copy it to the GPU where that is in use and has room."""
        index = Opened(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))
        if isinstance(index.cpu, faiss.IndexIVF):
            index.cpu.parallel_mode = PAIRS
        self.promote(index)
        return index

    def promote(self, index: Opened) -> None:
        """Copy an index to the GPU if it is not there and can be; else the CPU goes on."""
        if self._gpu is None or self._lost or index.device is not None:
            return
        try:
            index.device = self._gpu.copy(index.cpu)
        except RuntimeError as error:
            if self.backend.active == "gpu":
                log.warning("the CPU searches an index that could not be copied to the GPU: %s", error)
            self.backend = self._on("cpu", f"the index could not be copied to the GPU: {error}")
        else:
            self.backend = self._on("gpu", "a GPU is there and usable")

    def search(self, index: Opened, queries: Vectors, k: int, effort: int, lists: Positions | None) -> Positions:
        """Return the (n, k) positions that FAISS finds, -1 where there are fewer; any thread may call.

        ``lists`` are the inverted lists to search, for an index that has such; a GPU chooses as many itself.
        """
        if self._gpu is not None and index.device is not None and not self._lost and max(k, effort) <= RESULTS_MAX:
            try:
                return self._gpu.search(index.device, queries, k, effort)
            except RuntimeError as error:
                self._lost = True
                self.backend = self._on("cpu", f"the GPU failed, the CPU has taken over: {error}")
                log.exception("the GPU failed; the CPU searches until this process is restarted")
        if lists is not None:
            return search_lists(index.cpu, queries, k, lists)
        return _search(index.cpu, queries, k, effort)

    def release(self, index: Opened) -> None:
        """Free what an index holds on the GPU; nobody may search it any more."""
        if self._gpu is not None and index.device is not None:
            self._gpu.free(index.device)
            index.device = None

    def close(self) -> None:
        """Stop the GPU's thread."""
        if self._gpu is not None:
            self._gpu.close()
            self._gpu = None

    def _on(self, active: str, reason: str) -> Backend:
        return Backend(requested=self._requested, active=active, reason=reason)


def _search(index: Any, queries: Vectors, k: int, effort: int) -> Positions:  # noqa: ANN401 - FAISS has no types
    """Search with parameters of this call alone, for the index is shared."""
    rows, parameters = index.ntotal, None
    if isinstance(index, faiss.IndexHNSW):
        parameters = faiss.SearchParametersHNSW(efSearch=max(k, effort))
        rows = min(rows, max(k, effort) * index.hnsw.nb_neighbors(0))
    elif isinstance(index, faiss.IndexIVF):
        parameters = inverted_parameters(effort)
        rows = rows * effort // index.nlist
    prepare_thread(len(queries) * rows)
    _, positions = index.search(queries, k, params=parameters)
    found: Positions = positions
    return found
