"""Restarts are rare and explained: what restarts no pod, what does and why, and a rollout that got stuck."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.kubectl import CommandError, Kubectl, eventually
from tests.e2e.support.measured import Measured
from tests.e2e.support.volumes import Volume, owners_of

BROKEN = "invalid.example/none:1"
REPAIRED_BAR_S = 30.0

pytestmark = pytest.mark.timeout(240)


def test_only_what_is_said_to_restarts_the_pod_and_an_event_says_why(kubectl: Kubectl, image: str) -> None:
    """When to rebuild, how long to keep the volume: the same pod. The capacity: another, with both values told."""
    del image
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    pod = buffer.pod()["metadata"]["uid"]
    changes = {"rebuild": {"everyOperations": 50}, "persistence": {"size": "1Gi", "whenDeleted": "Delete"}}
    buffer.patch({**changes, "index": {"recallFloor": "0.9"}})
    eventually(lambda: owners_of(Volume(buffer).claim()) != [], "the change to be followed", 30)
    eventually(lambda: buffer.status()["observedGeneration"] == 2, "the status to be of it", 20)
    assert buffer.pod()["metadata"]["uid"] == pod
    assert "pendingRestarts" not in buffer.status()

    buffer.patch({"capacity": 5000})
    eventually(lambda: buffer.status().get("capacity") == 5000, "the capacity to be followed", 60)
    assert buffer.pod()["metadata"]["uid"] != pod
    (event,) = buffer.events("SettingsChanged")
    assert "demo-0 is restarted" in event["message"]
    assert "XBUF_BUFFER__CAPACITY from 100000 to 5000" in event["message"]


def test_a_rollout_that_got_stuck_goes_on_after_a_revert(kubectl: Kubectl, image: str, measured: Measured) -> None:
    """An image that cannot be pulled, and back: the pod that waits for it does not stay for ever."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest(image=image))
    buffer.wait_ready()
    buffer.patch({"image": BROKEN})
    broken = buffer.wait_condition("Ready", "False", 90, "ImageUnavailable")
    assert BROKEN in broken["message"]
    began = time.monotonic()
    buffer.patch({"image": image})
    buffer.wait_ready()
    measured.below(
        "from the revert of a broken image until the condition Ready", time.monotonic() - began, REPAIRED_BAR_S
    )
    assert [event["reason"] for event in buffer.events("ImageChanged")] == ["ImageChanged", "ImageChanged"]


def test_a_drain_is_let_through_unless_the_budget_says_block(kubectl: Kubectl, image: str) -> None:
    """An eviction, which is what a drain asks for: the pod comes up again; with Block it stays."""
    del image
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    pod = buffer.pod()["metadata"]["uid"]
    _evict(buffer)
    eventually(lambda: _another_pod(buffer, pod), "another pod", 60)
    buffer.wait_ready()
    eventually(lambda: buffer.status()["ready"] == "1/1", "the status to be of it", 30)

    buffer.patch({"disruptionBudget": "Block"})
    eventually(lambda: _counts_pods(kubectl), "the budget to know the pod", 60)
    pod = buffer.pod()["metadata"]["uid"]
    with pytest.raises(CommandError, match="disruption budget"):
        _evict(buffer)
    assert buffer.pod()["metadata"]["uid"] == pod


def _evict(buffer: Buffer) -> None:
    namespace, name = buffer.kubectl.namespace, buffer.pod_name
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    buffer.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))


def _another_pod(buffer: Buffer, before: str) -> bool:
    pod = buffer.kubectl.get("pod", buffer.pod_name)
    return pod is not None and pod["metadata"]["uid"] != before


def _counts_pods(kubectl: Kubectl) -> bool:
    found = kubectl.get("poddisruptionbudget", "demo")
    return found is not None and found.get("status", {}).get("currentHealthy") == 1
