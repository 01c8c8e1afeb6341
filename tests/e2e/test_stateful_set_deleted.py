"""Somebody deletes the StatefulSet: without its pod, which then goes on serving, and with it, which loses nothing."""

from __future__ import annotations

import pytest

from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import start_client, start_load
from tests.e2e.support.kubectl import Json, Kubectl, condition_of, eventually
from tests.e2e.support.measured import Measured

BACK_BAR_S = 30.0
PATIENT = 60
"""Retries that outlast a restart."""


@pytest.mark.timeout(180)
def test_a_deleted_stateful_set_comes_back_around_its_pod_and_without_loss(
    kubectl: Kubectl, image: str, measured: Measured
) -> None:
    """The orphaned pod is adopted as it is; a pod that went too is made anew on the same volume."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    load = start_load(buffer, image, retries=PATIENT)
    load.wait_progress("acknowledged", 200)
    first, pod = _stateful_set(buffer), buffer.pod()["metadata"]["uid"]

    kubectl("delete", "statefulset", buffer.name, "--cascade=orphan", "--wait=false")
    second = eventually(lambda: _another(buffer, first), "another StatefulSet", BACK_BAR_S)
    eventually(lambda: _owner(buffer) == second, "the pod to be adopted", BACK_BAR_S)
    assert buffer.pod()["metadata"]["uid"] == pod
    assert load.progress()["pauses_s"] == []

    kubectl("delete", "statefulset", buffer.name, "--wait=false")
    seconds = measured.time(lambda: eventually(lambda: _is_back(buffer, pod), "another pod to be ready", 90))
    measured.below("StatefulSet and pod deleted: until another pod is ready", seconds, BACK_BAR_S)
    result = load.stop()
    assert (result["failures"], result["wrong"], result["lost"], result["not_found"]) == ([], [], [], [])
    counted = start_client(buffer, image, "count", "count.py").result()
    assert counted == {"records": result["acknowledged"], "rows": result["acknowledged"], "not_found": []}


def _stateful_set(buffer: Buffer) -> str:
    """Return the identity of the StatefulSet, empty where there is none."""
    found = buffer.kubectl.get("statefulset", buffer.name)
    return str(found["metadata"]["uid"]) if found else ""


def _another(buffer: Buffer, before: str) -> str:
    found = _stateful_set(buffer)
    return found if found != before else ""


def _owner(buffer: Buffer) -> str:
    owners: list[Json] = buffer.pod()["metadata"].get("ownerReferences", [])
    return str(owners[0]["uid"]) if owners else ""


def _is_back(buffer: Buffer, before: str) -> bool:
    pod = buffer.kubectl.get("pod", buffer.pod_name)
    return pod is not None and pod["metadata"]["uid"] != before and condition_of(pod, "Ready").get("status") == "True"
