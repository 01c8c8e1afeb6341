"""A rebuild with a GPU, pinned on the CPU by a stand-in for the device."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from buffer_service.contract.generation import INDEX_FILE
from buffer_service.contract.pointer import Pointer
from tests.helpers.generations import build
from tests.helpers.gpu import Device
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until

ROWS = unit_vectors(12_000, 16)
SEARCHES_OF_THE_SELF_TEST = 1


def _built(
    folder: Path, build_on: str, index_type: str = "ivf", storage: str = "fp32", metric: str = "cosine"
) -> Pointer:
    content = dict(enumerate(ROWS, start=1))
    return build(
        folder, content, 1, watermark=1, build_on=build_on, index_type=index_type, storage=storage, metric=metric
    )


def _index_file(folder: Path, pointer: Pointer) -> bytes:
    found = list((folder / "indexes").rglob(INDEX_FILE))
    assert (len(found), pointer.generation) == (1, 1)
    return found[0].read_bytes()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("storage", ["fp32", "fp16", "sq8", "pq4"])
def test_an_index_built_with_a_gpu_is_the_one_that_the_cpu_builds(
    device: Device,
    tmp_path: Path,
    storage: str,
    metric: str,
) -> None:
    """To the byte, where both compute alike; the rows' lists come from the device, in blocks, and all is freed."""
    theirs = _index_file(tmp_path / "cpu", _built(tmp_path / "cpu", "cpu", storage=storage, metric=metric))
    assert (device.copies, device.searches) == (0, 0)

    ours = _index_file(tmp_path / "gpu", _built(tmp_path / "gpu", "gpu", storage=storage, metric=metric))

    assert ours == theirs
    assert device.searches == SEARCHES_OF_THE_SELF_TEST + 2, "two blocks of rows"
    wait_until(lambda: device.held == 0, "everything on the device is freed")
    assert len(device.threads) == 1


@pytest.mark.parametrize("calls", [3, 4, 5, 6])
def test_a_gpu_that_fails_leaves_the_build_to_the_cpu(
    device: Device,
    tmp_path: Path,
    calls: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At any step after its self-test: the index is whole, no row is in it twice, and the log says why."""
    device.calls_left = calls

    pointer = _built(tmp_path, "gpu")

    faiss_index = faiss.deserialize_index(np.frombuffer(_index_file(tmp_path, pointer), np.uint8))
    assert faiss_index.ntotal == len(ROWS)
    assert "the GPU failed; the index is built on the CPU" in caplog.text


def test_without_a_gpu_the_cpu_builds_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A Job that was given no usable GPU builds all the same."""
    pointer = _built(tmp_path, "gpu")

    assert pointer.generation == 1
    assert "the index is built on the CPU although the GPU was asked for: " in caplog.text


@pytest.mark.parametrize("index_type", ["flat", "hnsw"])
def test_a_type_that_has_nothing_to_train_leaves_the_gpu_alone(
    device: Device,
    tmp_path: Path,
    index_type: str,
) -> None:
    """A flat index is a copy, and FAISS builds graphs on the CPU alone."""
    _built(tmp_path, "gpu", index_type=index_type)

    assert device.copies == 0
