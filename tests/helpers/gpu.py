"""A stand-in for a GPU, with the limits of FAISS's GPU indexes.

It takes no ids and no selectors, gives at most 2,048 results, belongs to one thread, and fails when it is told to.
"""

from __future__ import annotations

import threading
from typing import Any

import faiss
import numpy as np
import pytest

from buffer_service.index.gpu import RESULTS_MAX


class Device:
    """Counts what is on it, and who touched it."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.held = 0
        self.copies = 0
        self.searches = 0
        self.calls_left: int | None = None
        self.copies_max = 100
        self.broken = False
        self.wrong = False

    def touch(self) -> None:
        """Note the thread, and fail if it is broken."""
        self.threads.add(threading.get_ident())
        if self.calls_left is not None:
            self.calls_left -= 1
            self.broken = self.calls_left < 0
        if self.broken:
            raise RuntimeError("CUDA error 999")

    def copy(self, resources: object, number: int, index: Any) -> DeviceIndex:  # noqa: ANN401
        """Stand in for faiss.index_cpu_to_gpu."""
        assert (type(resources).__name__, number) == ("Resources", 0)
        self.touch()
        if self.held >= self.copies_max:
            raise RuntimeError("out of memory")
        if isinstance(index, faiss.IndexHNSW):
            raise RuntimeError("This index type is not implemented on GPU.")  # noqa: TRY004 - as FAISS does
        self.held += 1
        self.copies += 1
        return DeviceFlat(self, index) if isinstance(index, faiss.IndexFlat) else DeviceIndex(self, index)


class DeviceIndex:
    """A copy on the device."""

    def __init__(self, device: Device, index: Any) -> None:  # noqa: ANN401
        self._device = device
        self._index = faiss.clone_index(index)
        if hasattr(self._index, "nprobe"):
            self.nprobe = 1

    def search(self, queries: np.ndarray, k: int, params: Any = None) -> tuple[object, np.ndarray]:  # type: ignore[type-arg]  # noqa: ANN401
        """Search as a GPU index does."""
        self._device.touch()
        self._device.searches += 1
        assert k <= RESULTS_MAX
        if params is not None:
            assert params.nprobe <= RESULTS_MAX
            assert params.sel is None, "classic GPU indexes ignore selectors silently"
        distances, positions = self._index.search(queries, k, params=params)
        return distances, positions[:, ::-1] if self._device.wrong else positions

    def reset(self) -> None:
        """Free it."""
        self._device.touch()
        self._device.held -= 1


class DeviceFlat(faiss.IndexFlat):  # type: ignore[misc] # FAISS has no types
    """A copy on the device that FAISS itself can use, as it uses one to cluster."""

    _copy: Any = None  # FAISS refuses attributes that the class has not

    def __init__(self, device: Device, index: Any) -> None:  # noqa: ANN401
        super().__init__(index.d, index.metric_type)
        if index.ntotal:
            self.add(index.reconstruct_n(0, index.ntotal))
        self._copy = DeviceIndex(device, self)

    def search(self, queries: np.ndarray, k: int, params: Any = None) -> tuple[object, np.ndarray]:  # type: ignore[type-arg]  # noqa: ANN401
        """Search as a GPU index does."""
        return self._copy.search(queries, k, params)

    def reset(self) -> None:
        """Free it."""
        self._copy.reset()


class Resources:
    """Stand in for StandardGpuResources."""

    temporary_bytes: int | None = None

    def setTempMemory(self, size: int) -> None:  # noqa: N802 - FAISS's name
        """Bound the scratch memory."""
        Resources.temporary_bytes = size


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Let FAISS say that a device is there, and return it."""
    made = Device()
    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", made.copy, raising=False)
    return made
