"""The limit B: raw FAISS in process on the index file that the service searches, in batches of the size it had.

Codes of four bits cannot be searched without ranking candidates exactly, so FAISS's own refinement does that here.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.datasets import Vectors
from benchmarks.search_data import K
from benchmarks.search_ours import served
from buffer_service.contract import names
from buffer_service.contract.generation import INDEX_FILE, VECTORS_FILE, generation_name
from buffer_service.index.main import EFFORT_NAMES


class RawIndex:
    """An index file, opened by mmap, with the effort that its manifest names."""

    def __init__(self, folder: Path) -> None:
        manifest = served(folder)
        place = folder / names.INDEXES_FOLDER / generation_name(manifest.generation) / INDEX_FILE
        self._index: Any = faiss.read_index(str(place), faiss.IO_FLAG_MMAP_IFC)
        effort = manifest.parameters.get(EFFORT_NAMES.get(manifest.index_type, ""), 1)
        self._parameters = None
        if manifest.index_type == "ivf":
            self._parameters = faiss.SearchParametersIVF(nprobe=effort)
            if isinstance(self._index, faiss.IndexIVFFastScan):
                vectors = np.load(place.with_name(VECTORS_FILE), mmap_mode="r")
                self._index = faiss.IndexRefineFlat(self._index, faiss.swig_ptr(vectors))
                self._parameters = faiss.IndexRefineSearchParameters(
                    k_factor=manifest.parameters["refine"], base_index_params=self._parameters
                )
        elif manifest.index_type == "hnsw":
            self._parameters = faiss.SearchParametersHNSW(efSearch=max(K, effort))

    def rate(self, queries: Vectors, batch: int, threads: int, duration_s: float) -> float:
        """Return the searches per second of one caller with so many OpenMP threads."""
        faiss.omp_set_num_threads(threads)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < duration_s:
            start = done % (len(queries) - batch + 1)
            self._index.search(queries[start : start + batch], K, params=self._parameters)
            done += batch
        return done / (time.perf_counter() - began)
