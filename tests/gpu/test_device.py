"""The real GPU: it is used, it finds what the CPU finds, and its memory comes back. Skipped where there is none."""

from __future__ import annotations

import gc
import subprocess
from pathlib import Path

import numpy as np
import pytest

from buffer_service.contract.pointer import INITIAL, Pointer
from buffer_service.index.delta import Delta
from buffer_service.index.engine import Engine
from buffer_service.index.generations import load, read_manifest
from buffer_service.index.gpu import gpu_obstacle
from buffer_service.index.main import Effort, MainIndex
from buffer_service.index.view import View
from tests.helpers.generations import build
from tests.helpers.vectors import unit_vectors

pytestmark = pytest.mark.skipif(gpu_obstacle() is not None, reason=f"no usable GPU: {gpu_obstacle()}")

ROWS = unit_vectors(20_000, 64)
CYCLES = 30


def _built(folder: Path, index_type: str, storage: str, metric: str) -> Pointer:
    content = dict(enumerate(ROWS, start=1))
    return build(folder, content, 1, watermark=1, index_type=index_type, storage=storage, metric=metric)


def _view(main: MainIndex) -> View:
    return View(1, INITIAL, main, Delta(64, main.manifest.metric, 1), 0)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    ("index_type", "storage"), [("flat", "fp32"), ("ivf", "fp32"), ("ivf", "fp16"), ("ivf", "sq8")]
)
def test_the_gpu_finds_what_the_cpu_finds(tmp_path: Path, index_type: str, storage: str, metric: str) -> None:
    """With all lists searched, for single queries and for batches, with and without the dead."""
    pointer = _built(tmp_path, index_type, storage, metric)
    gpu = load(Engine("gpu"), tmp_path / "indexes", pointer, 64, metric)
    cpu = load(Engine("cpu"), tmp_path / "indexes", pointer, 64, metric)
    queries = unit_vectors(500, 64, seed=1)

    for dead in ((), range(1, 5000)):
        for main in (gpu, cpu):
            for experience in dead:
                main.mark_dead(experience, 1)
        for batch in (queries[:1], queries):
            ours, theirs = (_view(main).search(batch, 10, Effort(probes=1024)) for main in (gpu, cpu))
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
            assert float(np.mean(ours.ids == theirs.ids)) > 0.99


def test_memory_on_the_device_comes_back(tmp_path: Path) -> None:
    """Loading and dropping again and again leaves as much in use as loading once."""
    pointer = _built(tmp_path, "flat", "fp32", "cosine")
    engine = Engine("gpu")
    used = []
    for _ in range(CYCLES):
        main = load(engine, tmp_path / "indexes", pointer, 64, "cosine")
        assert _view(main).search(ROWS[:1], 1).ids[0, 0] == 1
        del main
        gc.collect()
        used.append(_used_mib())

    assert used[-1] <= used[1] * 1.05


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("storage", ["fp32", "fp16", "sq8", "pq4"])
def test_a_rebuild_on_the_gpu_needs_no_more_probes_than_one_on_the_cpu(
    tmp_path: Path, storage: str, metric: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its centroids are as good: the effort that reaches the recall floor is about the same."""
    caplog.set_level("INFO")
    probes = {}
    for build_on in ("cpu", "gpu"):
        folder = tmp_path / build_on
        pointer = build(
            folder,
            dict(enumerate(ROWS, start=1)),
            1,
            watermark=1,
            index_type="ivf",
            storage=storage,
            metric=metric,
            build_on=build_on,
        )
        manifest, _ = read_manifest(folder / "indexes", pointer.generation)
        probes[build_on] = manifest.parameters["nprobe"]

    assert "lists were trained and filled with a GPU" in caplog.text
    assert probes["gpu"] <= 1.5 * probes["cpu"]


def _used_mib() -> int:
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
