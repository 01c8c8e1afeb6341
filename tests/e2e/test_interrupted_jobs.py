"""Rebuild Jobs whose pods are disturbed: evicted, and run twice at the same time."""

from __future__ import annotations

import json

import pytest

from buffer_service.contract import names
from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import ClientPod, start_load
from tests.e2e.support.kubectl import CommandError, Json, Kubectl, eventually

ROWS = 400
_JOB_LABEL = "batch.kubernetes.io/job-name"
_BY_CONTROLLER = ("controller-uid", "batch.kubernetes.io/controller-uid", "job-name", _JOB_LABEL)


def _fill(kubectl: Kubectl, image: str) -> tuple[Buffer, ClientPod]:
    """Start a buffer and what fills it. Its rebuilds get a fifth of a core, so that there is time to disturb them."""
    buffer = Buffer(kubectl)
    slow = {"everyOperations": 300, "minIntervalSeconds": 0, "resources": {"limits": {"cpu": "200m"}}}
    kubectl.apply(manifest(rebuild=slow))
    buffer.wait_ready()
    return buffer, start_load(buffer, image, rows=ROWS)


def _check_readers(load: ClientPod) -> None:
    load.wait_progress("acknowledged", ROWS)
    load.wait_progress("switches", 1)
    result = load.stop()
    assert (result["failures"], result["wrong"], result["lost"], result["not_found"]) == ([], [], [], [])


@pytest.mark.timeout(180)
def test_an_evicted_rebuild_begins_anew_and_counts_as_no_failure(kubectl: Kubectl, image: str) -> None:
    """A drained node is nobody's fault: the same Job, another pod, the same generation."""
    buffer, load = _fill(kubectl, image)
    job = names.rebuild_job(buffer.name, 1)
    evicted = eventually(lambda: _evict(kubectl, job), "a pod of the rebuild to evict", 60)
    buffer.wait_generation(1)
    pods = {pod["metadata"]["uid"] for pod in kubectl.list("pods", f"{_JOB_LABEL}={job}")}
    assert pods - {evicted}, "another pod has done it"
    assert len(kubectl.list("jobs", buffer.selector)) == 1
    buffer.wait_condition("RebuildSucceeded", "True", 20, "Rebuilt")
    assert buffer.status()["rebuild"]["failedAttempts"] == 0
    _check_readers(load)


@pytest.mark.timeout(180)
def test_a_rebuild_that_runs_twice_points_once_to_one_whole_generation(kubectl: Kubectl, image: str) -> None:
    """Kubernetes may start a pod of a Job twice: both build, one is published, the pointer moves once."""
    buffer, load = _fill(kubectl, image)
    job = names.rebuild_job(buffer.name, 1)
    template = eventually(lambda: kubectl.get("job", job), "the rebuild to begin", 60)["spec"]["template"]
    kubectl.apply(_twin(template, buffer))
    buffer.wait_generation(1)
    ended = eventually(lambda: _phase(kubectl, "twin"), "the twin to end", 60)
    pointer = buffer.pointer()
    assert (pointer.generation, pointer.revision) == (1, 1), ended
    _check_readers(load)
    kubectl("delete", "pod", buffer.pod_name, "--wait=false")
    uid = eventually(lambda: _ready_uid(buffer), "the pod to be ready again", 60)
    assert uid
    buffer.wait_condition("IndexCurrent", "True", 30, "Served")
    assert buffer.pointer() == pointer


def _evict(kubectl: Kubectl, job: str) -> str:
    """Evict a pod of the Job that has not ended; returns its identity, empty where there is none yet."""
    for pod in kubectl.list("pods", f"{_JOB_LABEL}={job}"):
        if pod["status"].get("phase") in ("Pending", "Running"):
            name, uid = pod["metadata"]["name"], str(pod["metadata"]["uid"])
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
            path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}/eviction"
            try:
                kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(body))
            except CommandError:
                return ""
            return uid
    return ""


def _twin(template: Json, buffer: Buffer) -> Json:
    """Return a pod as the Job's controller makes it, which it knows nothing of."""
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key not in _BY_CONTROLLER}
    metadata = {"name": "twin", "namespace": buffer.kubectl.namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _phase(kubectl: Kubectl, pod: str) -> str:
    phase = str(kubectl.existing("pod", pod)["status"].get("phase"))
    return phase if phase in ("Succeeded", "Failed") else ""


def _ready_uid(buffer: Buffer) -> str:
    pod = buffer.kubectl.get("pod", buffer.pod_name)
    ready = pod is not None and "deletionTimestamp" not in pod["metadata"]
    states = pod["status"].get("containerStatuses", []) if ready and pod else []
    return str(pod["metadata"]["uid"]) if pod and states and states[0]["ready"] else ""
