"""A suspended buffer has no pod and pays for nothing but its volume; resumed, it serves everything again."""

from __future__ import annotations

import time

import pytest

from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import start_client, start_load
from tests.e2e.support.kubectl import Kubectl, eventually
from tests.e2e.support.measured import Measured

ROWS = 400
GONE_BAR_S = 20.0
RESUMED_BAR_S = 20.0


@pytest.mark.timeout(240)
def test_a_suspended_buffer_keeps_its_volume_alone_and_comes_back_with_everything(
    kubectl: Kubectl, image: str, measured: Measured
) -> None:
    """Pod gone, claim the same; after resuming every acknowledged experience is there and found."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    load = start_load(buffer, image, rows=ROWS)
    load.wait_progress("acknowledged", ROWS)
    generation = buffer.wait_generation(1)["generation"]
    written = load.stop()
    claim = kubectl.existing("persistentvolumeclaim", f"data-{buffer.pod_name}")["metadata"]["uid"]

    began = time.monotonic()
    buffer.patch({"suspend": True})
    eventually(lambda: kubectl.get("pod", buffer.pod_name) is None, "the pod to be gone", 60)
    measured.below("from suspend until the pod is gone", time.monotonic() - began, GONE_BAR_S)
    assert buffer.wait_condition("Ready", "False", 20, "Suspended")["observedGeneration"] == 2
    status = buffer.status()
    assert (status["phase"], status["ready"], status["records"]) == ("Suspended", "0/0", ROWS)
    assert buffer.condition("StorageHealthy")["status"] == "True"
    assert kubectl.existing("persistentvolumeclaim", f"data-{buffer.pod_name}")["metadata"]["uid"] == claim
    assert buffer.pointer().generation == generation

    began = time.monotonic()
    buffer.patch({"suspend": False})
    buffer.wait_ready()
    measured.below("from resume until the condition Ready", time.monotonic() - began, RESUMED_BAR_S)
    counted = start_client(buffer, image, "count", "count.py").result()
    assert counted == {"records": written["acknowledged"], "rows": written["acknowledged"], "not_found": []}
    assert buffer.wait_generation(generation)["generation"] == generation
