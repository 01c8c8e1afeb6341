"""What searches on a GPU rely on, pinned on the CPU: a stand-in for the device behaves as FAISS's GPU indexes do."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import pytest

from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.index.engine import Engine
from buffer_service.index.generations import load
from buffer_service.index.main import Effort
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import rebuild
from buffer_service.settings import BufferSettings, EmbeddingSettings, IndexSettings, RebuildSettings, Settings
from tests.helpers.generations import build, request
from tests.helpers.gpu import Device, Resources
from tests.helpers.vectors import brute_force, unit_vectors
from tests.helpers.waiting import wait_until

ROWS = unit_vectors(3000, 8)


Open = Callable[[], ExperienceBuffer]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens buffers in tmp_path, whose follower runs only when it is told to, and closes them."""
    buffers: list[ExperienceBuffer] = []

    def open_buffer() -> ExperienceBuffer:
        settings = Settings(
            buffer=BufferSettings(capacity=5000),
            embedding=EmbeddingSettings(dimension=8),
            index=IndexSettings(faiss_backend="gpu", recall_share=0),
            rebuild=RebuildSettings(mode="off"),
        )
        buffers.append(ExperienceBuffer.open(tmp_path, settings))
        buffers[-1].follower.close()
        return buffers[-1]

    yield open_buffer
    for buffer in buffers:
        buffer.close()


def _append(buffer: ExperienceBuffer, first: int, last: int) -> None:
    buffer.append([Experience(visual=row.tobytes(), confidence=0.5) for row in ROWS[first:last]])


def _switch(buffer: ExperienceBuffer, folder: Path, generation: int, index_type: str) -> None:
    buffer.export()
    rebuild(request(folder, generation, index_type=index_type, storage="fp32"), FolderPointer(folder / "pointer"))
    buffer.follower.follow()
    assert buffer.serving.view.pointer.generation == generation


@pytest.mark.parametrize("index_type", ["flat", "ivf"])
def test_ids_deletes_and_filters_are_right_on_the_device(
    device: Device, opened: Open, tmp_path: Path, index_type: str
) -> None:
    """Though it knows none of them: rows are mapped to ids, hidden and filtered on the CPU."""
    buffer = opened()
    _append(buffer, 0, 2000)
    _switch(buffer, tmp_path, 1, index_type)
    _append(buffer, 2000, 2100)
    for experience in (7, 8, 9, 2001):
        buffer.remove(experience)
    live = {n + 1: ROWS[n] for n in range(2100) if n + 1 not in (7, 8, 9, 2001)}

    for query in (6, 7, 500, 2000, 2050):
        found = buffer.search(ROWS[query : query + 1], 10, effort=Effort(probes=1024))
        assert found.ids[0].tolist() == brute_force(live, ROWS[query], 10)
    some = buffer.search(ROWS[6:7], 5, wanted={"id": {"lte": 1000}}).ids[0]
    assert some.tolist() == brute_force({n: row for n, row in live.items() if n <= 1000}, ROWS[6], 5)
    assert device.searches > 0
    assert buffer.status().backend.active == "gpu"


def test_one_thread_does_everything_that_touches_the_device(device: Device, opened: Open, tmp_path: Path) -> None:
    """Opening, searching from many threads, freeing; and the scratch memory is bounded."""
    buffer = opened()
    _append(buffer, 0, 500)
    _switch(buffer, tmp_path, 1, "ivf")
    threads = [threading.Thread(target=buffer.search, args=(ROWS[n : n + 1], 3)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _switch(buffer, tmp_path, 2, "flat")
    gc.collect()

    wait_until(lambda: device.held == 1, "the first copy is freed")
    assert len(device.threads) == 1
    assert threading.get_ident() not in device.threads
    assert Resources.temporary_bytes == 256 * 2**20


def test_beyond_the_limits_of_the_device_the_cpu_searches(device: Device, opened: Open, tmp_path: Path) -> None:
    """More than 2,048 results are right, not cut off."""
    buffer = opened()
    _append(buffer, 0, 3000)
    _switch(buffer, tmp_path, 1, "flat")

    before = device.searches

    found = buffer.serving.view.search(ROWS[:1], 2500)

    assert len(set(found.ids[0].tolist())) == 2500
    assert device.searches == before
    assert buffer.status().backend.active == "gpu"


def test_losing_the_device_falls_back_to_the_cpu(
    device: Device, opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The search that met the failure is answered as well; status and log say what happened."""
    buffer = opened()
    _append(buffer, 0, 2000)
    _switch(buffer, tmp_path, 1, "ivf")
    device.broken = True

    found = buffer.search(ROWS[:50], 1)

    assert found.ids[:, 0].tolist() == list(range(1, 51))
    backend = buffer.status().backend
    assert (backend.requested, backend.active) == ("gpu", "cpu")
    assert "CUDA error 999" in backend.reason
    assert "the GPU failed" in caplog.text


def test_when_two_generations_do_not_fit_the_cpu_serves_until_there_is_room(
    device: Device, opened: Open, tmp_path: Path
) -> None:
    """The switch does not fail; once the old copy is freed, the new one is copied."""
    device.copies_max = 1
    buffer = opened()
    wait_until(lambda: device.held == 0, "the copy of the self-test is freed")
    _append(buffer, 0, 500)
    _switch(buffer, tmp_path, 1, "flat")
    assert buffer.status().backend.active == "gpu"
    _switch(buffer, tmp_path, 2, "flat")
    assert (buffer.status().backend.active, "out of memory" in buffer.status().backend.reason) == ("cpu", True)
    assert buffer.search(ROWS[:1], 1).ids[0, 0] == 1

    gc.collect()
    wait_until(lambda: device.held == 0, "the old copy is freed")
    buffer.follower._promote()

    assert buffer.status().backend.active == "gpu"
    assert device.held == 1


def test_a_type_without_a_gpu_form_is_served_by_the_cpu(device: Device, opened: Open, tmp_path: Path) -> None:
    """And said so."""
    buffer = opened()
    _append(buffer, 0, 500)
    _switch(buffer, tmp_path, 1, "hnsw")

    assert buffer.search(ROWS[:1], 1).ids[0, 0] == 1
    assert "not implemented on GPU" in buffer.status().backend.reason
    assert device.searches == 1


def test_a_device_that_finds_something_else_is_not_used(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    """The self-test at the start compares it with the CPU."""
    device.wrong = True

    engine = Engine("gpu")

    assert engine.backend.active == "cpu"
    assert "does not find what the CPU finds" in engine.backend.reason
    assert engine.backend.reason in caplog.text


@pytest.mark.parametrize("storage", ["fp32", "fp16", "sq8"])
def test_what_is_copied_to_a_device_is_an_index_that_faiss_can_clone(tmp_path: Path, storage: str) -> None:
    """The main index is a plain FAISS index with a flat quantizer, by which the cloner knows it."""
    content = dict(enumerate(ROWS[:2000], start=1))
    pointer = build(tmp_path, content, 1, watermark=1, index_type="ivf", storage=storage)
    main = load(Engine("cpu"), tmp_path / "indexes", pointer, 8, "cosine")
    index = main._index.cpu

    assert isinstance(index, faiss.IndexIVFFlat | faiss.IndexIVFScalarQuantizer)
    assert isinstance(faiss.downcast_index(index.quantizer), faiss.IndexFlat)
    assert faiss.clone_index(index).ntotal == 2000


def test_the_installed_faiss_has_no_cagra() -> None:
    """So there is no such index type; a FAISS built with cuVS would be a reason to offer one."""
    assert not hasattr(faiss, "GpuIndexCagra")
