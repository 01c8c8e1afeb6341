"""What becomes of a volume when its buffer is deleted, and when a buffer of the same name comes back."""

from __future__ import annotations

import pytest
from buffer_operator.kube import labels

from tests.e2e.support.buffers import RESOURCE, Buffer, manifest
from tests.e2e.support.clients import start_client, start_load
from tests.e2e.support.kubectl import Kubectl, eventually

ROWS = 400
CLAIM = "data-demo-0"

pytestmark = pytest.mark.timeout(240)


def test_a_kept_volume_is_taken_up_with_everything_or_not_at_all(kubectl: Kubectl, image: str) -> None:
    """A buffer of another dimension gets a reason and no pod that crashes; one of the same serves what was written."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    load = start_load(buffer, image, rows=ROWS)
    load.wait_progress("acknowledged", ROWS)
    buffer.wait_generation(1)
    written = load.stop()
    eventually(lambda: labels.CONTENT in _annotations(kubectl), "a note of what the volume holds", 30)
    volume = kubectl.existing("persistentvolumeclaim", CLAIM)["metadata"]["uid"]
    _delete(buffer)

    kubectl.apply(manifest(embedding={"dimension": 32}))
    unusable = buffer.wait_condition("Ready", "False", 30, "VolumeUnusable")
    assert "dimension 64" in unusable["message"]
    assert "dimension 32" in unusable["message"]
    assert buffer.status()["phase"] == "Blocked"
    assert kubectl.get("statefulset", "demo") is None
    _delete(buffer)

    kubectl.apply(manifest())
    buffer.wait_ready()
    counted = start_client(buffer, image, "count", "count.py").result()
    assert counted == {"records": written["acknowledged"], "rows": written["acknowledged"], "not_found": []}
    assert kubectl.existing("persistentvolumeclaim", CLAIM)["metadata"]["uid"] == volume


def test_a_volume_goes_with_its_buffer_where_the_spec_says_so(kubectl: Kubectl, image: str) -> None:
    """By Kubernetes' own retention policy."""
    del image
    buffer = Buffer(kubectl)
    kubectl.apply(manifest(persistence={"size": "1Gi", "whenDeleted": "Delete"}))
    buffer.wait_ready()
    _delete(buffer)
    eventually(lambda: kubectl.get("persistentvolumeclaim", CLAIM) is None, "the claim to be gone", 60)


def _annotations(kubectl: Kubectl) -> dict[str, str]:
    found: dict[str, str] = kubectl.existing("persistentvolumeclaim", CLAIM)["metadata"].get("annotations", {})
    return found


def _delete(buffer: Buffer) -> None:
    buffer.kubectl("delete", RESOURCE, buffer.name, "--wait=true")
    eventually(lambda: buffer.kubectl.get("pod", buffer.pod_name) is None, "the pod to be gone", 60)
    eventually(lambda: buffer.kubectl.get("statefulset", buffer.name) is None, "the StatefulSet to be gone", 60)
