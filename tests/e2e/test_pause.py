"""A paused buffer is served and left alone; the condition says who paused it and what would be done."""

from __future__ import annotations

import pytest
from buffer_operator.kube import labels

from tests.e2e.support.buffers import RESOURCE, Buffer, manifest
from tests.e2e.support.clients import start_load
from tests.e2e.support.kubectl import Kubectl, eventually

WHO = "ann: node maintenance until Friday"


@pytest.mark.timeout(240)
def test_nothing_is_applied_while_paused_and_everything_afterwards(kubectl: Kubectl, image: str) -> None:
    """Neither the spec is followed nor drift repaired; requests are answered all the while."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    pod = buffer.pod()["metadata"]["uid"]
    kubectl("annotate", RESOURCE, buffer.name, f"{labels.PAUSED}={WHO}")
    assert WHO in buffer.wait_condition("Paused", "True", 20, "NothingPending")["message"]

    kubectl("delete", "service", f"{buffer.name}-pods", "--wait=true")
    buffer.patch({"capacity": 5000})
    waits = buffer.wait_condition("Paused", "True", 20, "ChangesPending")
    eventually(lambda: "apply StatefulSet demo" in buffer.condition("Paused")["message"], "the change to be told", 20)
    message = buffer.condition("Paused")["message"]
    assert WHO in waits["message"]
    assert f"apply Service {buffer.name}-pods" in message
    assert "restart demo-0 (SettingsChanged)" in message
    (restart,) = buffer.status()["pendingRestarts"]
    assert (restart["pod"], restart["reason"]) == (buffer.pod_name, "SettingsChanged")
    load = start_load(buffer, image, rows=100)
    load.wait_progress("acknowledged", 100)
    result = load.stop()
    assert (result["failures"], result["wrong"], result["lost"]) == ([], [], [])
    assert kubectl.get("service", f"{buffer.name}-pods") is None
    assert buffer.pod()["metadata"]["uid"] == pod
    assert buffer.status()["phase"] == "Paused"

    kubectl("annotate", RESOURCE, buffer.name, f"{labels.PAUSED}-")
    buffer.wait_condition("Paused", "False", 20, "Active")
    eventually(lambda: buffer.status().get("capacity") == 5000, "the capacity to be followed", 60)
    buffer.wait_ready()
    assert buffer.pod()["metadata"]["uid"] != pod
    assert kubectl.existing("service", f"{buffer.name}-pods")["spec"]["clusterIP"] == "None"
    assert "pendingRestarts" not in buffer.status()
