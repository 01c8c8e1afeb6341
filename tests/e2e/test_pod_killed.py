"""The service's process is killed, then its pod is deleted, while a client writes: nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import ClientPod, start_client, start_load, start_script
from tests.e2e.support.kubectl import Json, Kubectl, condition_of, eventually
from tests.e2e.support.measured import Measured
from tests.e2e.support.namespaces import Namespaces

KILLED_BAR_S = 15.0
DELETED_BAR_S = 30.0
PATIENT = 60
"""Retries that outlast a restart."""


@pytest.fixture
def host_kubectl(namespaces: Namespaces) -> Iterator[Kubectl]:
    """Yield kubectl in a namespace whose pods may see the processes of their node."""
    made = namespaces.make("host", pod_security="privileged")
    yield made
    namespaces.remove(made)


@pytest.mark.timeout(240)
def test_every_acknowledged_experience_is_back_after_kill_9_and_after_deletion(
    kubectl: Kubectl, host_kubectl: Kubectl, image: str, measured: Measured
) -> None:
    """A writer rides through both with retries; each experience is there once and is found."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    load = start_load(buffer, image, retries=PATIENT)
    load.wait_progress("switches", 1)

    pauses = len(load.progress()["pauses_s"])
    _kill_9(buffer, host_kubectl, image)
    eventually(lambda: _is_ready(buffer) and _container(buffer)["restartCount"] == 1, "the pod to be ready again", 60)
    # The kubelet may have lost the record of the container that ended; that it was killed is for the script to say.
    ended = _container(buffer)["lastState"].get("terminated")
    assert ended is None or ended["exitCode"] == 137
    measured.below("from kill -9 until the writer is acknowledged again", _pause_s(load, pauses), KILLED_BAR_S)

    before, pauses = buffer.pod()["metadata"]["uid"], len(load.progress()["pauses_s"])
    kubectl("delete", "pod", buffer.pod_name, "--wait=false")
    eventually(lambda: _is_ready(buffer) and buffer.pod()["metadata"]["uid"] != before, "another pod to be ready", 60)
    measured.below("from deletion of the pod until the writer goes on", _pause_s(load, pauses), DELETED_BAR_S)

    result = load.stop()
    assert (result["failures"], result["wrong"]) == ([], [])
    assert (result["lost"], result["not_found"], result["doubled"]) == ([], [], 0)
    counted = start_client(buffer, image, "count", "count.py").result()
    assert counted == {"records": result["acknowledged"], "rows": result["acknowledged"], "not_found": []}


def _kill_9(buffer: Buffer, host_kubectl: Kubectl, image: str) -> None:
    pod = buffer.pod()
    place = {"nodeName": pod["spec"]["nodeName"], "hostPID": True}
    start_script(host_kubectl, image, "kill", "kill.py", pod["metadata"]["uid"], **place).result()


def _is_ready(buffer: Buffer) -> bool:
    pod = buffer.kubectl.get("pod", buffer.pod_name)
    return pod is not None and condition_of(pod, "Ready").get("status") == "True"


def _container(buffer: Buffer) -> Json:
    container: Json = buffer.pod()["status"]["containerStatuses"][0]
    return container


def _pause_s(load: ClientPod, before: int) -> float:
    """Wait until the writer goes on; returns its longest pause since there were so many."""
    load.wait_progress("acknowledged", load.progress()["acknowledged"] + 50)
    return max(load.progress()["pauses_s"][before:], default=0.0)
