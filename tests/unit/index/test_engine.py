"""Where FAISS runs, and what is said when it cannot run where it was asked to."""

from __future__ import annotations

import logging

import faiss
import numpy as np
import pytest

from buffer_service.index.engine import Engine, Opened
from buffer_service.index.gpu import gpu_obstacle
from tests.helpers.vectors import unit_vectors


@pytest.mark.skipif(gpu_obstacle() is None, reason="there is a usable GPU, so nothing falls back")
def test_a_gpu_that_is_missing_falls_back_to_the_cpu_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Asking for a GPU never fails: it says why it was not used."""
    with caplog.at_level(logging.WARNING):
        engine = Engine("gpu")

    assert engine.backend.requested == "gpu"
    assert engine.backend.active == "cpu"
    assert "GPU" in engine.backend.reason
    assert engine.backend.reason in caplog.text


def test_auto_takes_the_cpu_without_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asked for a GPU, so its absence is only a fact in the status."""
    monkeypatch.setattr("buffer_service.index.gpu.gpu_obstacle", lambda: "FAISS found no GPU")
    with caplog.at_level(logging.WARNING):
        engine = Engine("auto")

    assert (engine.backend.active, caplog.text) == ("cpu", "")


def test_the_cpu_is_used_when_it_was_asked_for() -> None:
    """Even where there is a GPU."""
    assert Engine("cpu").backend.active == "cpu"


def test_search_parameters_are_per_call_and_leave_the_index_alone() -> None:
    """Two requests with different probes must not disturb each other."""
    rows = unit_vectors(1000, 8)
    quantizer = faiss.IndexFlatIP(8)
    index = faiss.IndexIVFFlat(quantizer, 8, 16, faiss.METRIC_INNER_PRODUCT)
    index.train(rows)
    index.add(rows)
    engine = Engine("cpu")

    few = engine.search(Opened(index), rows[:50], 10, 1, None)
    all_lists = engine.search(Opened(index), rows[:50], 10, 16, None)

    assert index.nprobe == 1
    assert not np.array_equal(few, all_lists)
