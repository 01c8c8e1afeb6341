"""Volumes that grow: around a pod that goes on serving, before they are full, and where the storage does not allow it.

The provisioner of these clusters gives out folders and resizes nothing. Requests, refusals, the StatefulSet and the
pod are real; that the storage has done its part is played by the tests, which write the claim's status as a resizer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import start_load
from tests.e2e.support.kubectl import Json, Kubectl, eventually
from tests.e2e.support.measured import Measured
from tests.e2e.support.volumes import Volume, expandable_class, owners_of

GROWN_BAR_S = 20.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def storage_class() -> Iterator[str]:
    """Yield a StorageClass whose claims may grow."""
    with expandable_class() as name:
        yield name


def _shown(buffer: Buffer, field: str) -> object:
    volumes: list[Json] = buffer.status().get("volumes", [])
    return volumes[0].get(field) if volumes else None


def test_a_volume_grows_around_a_pod_that_goes_on_serving(
    kubectl: Kubectl, image: str, storage_class: str, measured: Measured
) -> None:
    """Another StatefulSet, the same pod, no failed request; the pod has one owner in the end."""
    buffer = Buffer(kubectl)
    persistence = {"size": "1Gi", "storageClassName": storage_class, "whenDeleted": "Delete"}
    kubectl.apply(manifest(persistence=persistence))
    buffer.wait_ready()
    volume, pod = Volume(buffer), buffer.pod()["metadata"]["uid"]
    claim, before = volume.claim()["metadata"]["uid"], kubectl.existing("statefulset", "demo")["metadata"]["uid"]
    load = start_load(buffer, image)
    load.wait_progress("acknowledged", 50)

    began = time.monotonic()
    buffer.patch({"persistence": persistence | {"size": "2Gi"}})
    eventually(lambda: _is_made_anew(kubectl, before, "2Gi"), "the StatefulSet to be another one", 60)
    measured.below("from a larger size until the StatefulSet is made anew", time.monotonic() - began, GROWN_BAR_S)
    assert volume.requested() == "2Gi"
    made = kubectl.existing("statefulset", "demo")["metadata"]["uid"]
    eventually(lambda: owners_of(buffer.pod()) == [made], "the pod to belong to it alone", 30)
    assert owners_of(volume.claim()) == [buffer.resource()["metadata"]["uid"]]
    assert (buffer.pod()["metadata"]["uid"], volume.claim()["metadata"]["uid"]) == (pod, claim)
    assert buffer.wait_condition("StorageHealthy", "True", 20, "Resizing")["message"].endswith("from 1Gi to 2Gi.")

    volume.resized("2Gi")
    eventually(lambda: (_shown(buffer, "actual"), _shown(buffer, "phase")) == ("2Gi", "Bound"), "2Gi to be shown", 30)
    buffer.wait_condition("StorageHealthy", "True", 20, "VolumeHealthy")
    load.wait_progress("acknowledged", load.progress()["acknowledged"] + 50)
    result = load.stop()
    assert (result["failures"], result["wrong"], result["lost"], result["not_found"]) == ([], [], [], [])
    assert (buffer.pod()["metadata"]["uid"], buffer.condition("Ready")["status"]) == (pod, "True")


def test_a_storage_class_that_cannot_expand_is_a_condition_and_holds_nothing_up(kubectl: Kubectl, image: str) -> None:
    """The API server's sentence is in StorageHealthy; the rest of the same change is carried out."""
    del image
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    buffer.patch({"persistence": {"size": "2Gi"}, "capacity": 5000})
    refused = buffer.wait_condition("StorageHealthy", "False", 30, "ResizeRefused")
    assert "must support resize" in refused["message"]
    eventually(lambda: buffer.status().get("capacity") == 5000, "the capacity to be followed", 60)
    buffer.wait_ready()
    assert Volume(buffer).requested() == "1Gi"
    assert _shown(buffer, "actual") == "1Gi"
    refusal = _shown(buffer, "refused")
    assert isinstance(refusal, dict)
    assert refusal["size"] == "2Gi"


def test_a_file_system_that_waits_for_a_start_gets_one_and_no_second(
    kubectl: Kubectl, image: str, storage_class: str
) -> None:
    """After the node's minute the pod is evicted once, with the reason in an Event."""
    del image
    buffer = Buffer(kubectl)
    persistence = {"size": "1Gi", "storageClassName": storage_class}
    kubectl.apply(manifest(persistence=persistence))
    buffer.wait_ready()
    volume, pod = Volume(buffer), buffer.pod()["metadata"]
    buffer.patch({"persistence": persistence | {"size": "2Gi"}})
    eventually(lambda: volume.requested() == "2Gi", "the claim to ask for more", 30)
    volume.waits_for_start("2Gi", since=pod["creationTimestamp"])
    buffer.wait_condition("StorageHealthy", "True", 30, "FileSystemResizePending")
    eventually(lambda: buffer.pod()["metadata"]["uid"] != pod["uid"], "another pod", 120)
    second = buffer.pod()["metadata"]["uid"]
    buffer.wait_ready()
    assert [event["reason"] for event in buffer.events("FileSystemResize")] == ["FileSystemResize"]
    volume.resized("2Gi")
    eventually(lambda: _shown(buffer, "phase") == "Bound", "the resize to be over", 30)
    assert buffer.pod()["metadata"]["uid"] == second


def test_a_volume_grows_step_by_step_before_it_is_full_and_not_beyond_its_maximum(
    kubectl: Kubectl, image: str, storage_class: str
) -> None:
    """The folder is on the node's disk, which is fuller than the threshold: so it grows until it may not."""
    del image
    buffer = Buffer(kubectl)
    growth = {"threshold": "0.001", "step": "1Gi", "maximum": "3Gi", "coolDownSeconds": 0}
    kubectl.apply(manifest(persistence={"size": "1Gi", "storageClassName": storage_class, "autoGrowth": growth}))
    buffer.wait_ready()
    volume = Volume(buffer)
    for size in ("2Gi", "3Gi"):
        eventually(lambda size=size: volume.requested() == size, f"the claim to ask for {size}", 60)
        volume.resized(size)
    reached = buffer.wait_condition("StorageHealthy", "False", 60, "MaximumReached")
    assert "persistence.autoGrowth.maximum, which is 3Gi" in reached["message"]
    assert (volume.requested(), buffer.resource()["spec"]["persistence"]["size"]) == ("3Gi", "1Gi")
    used = _shown(buffer, "usedBytes")
    assert isinstance(used, int)
    assert used > 0


def _is_made_anew(kubectl: Kubectl, before: str, size: str) -> bool:
    found = kubectl.get("statefulset", "demo")
    if found is None or found["metadata"]["uid"] == before:
        return False
    (template,) = found["spec"]["volumeClaimTemplates"]
    return bool(template["spec"]["resources"]["requests"]["storage"] == size)
