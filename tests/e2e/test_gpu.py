"""A buffer that asks for a GPU: Pending with the reason without one, on the node that has one, and honest about FAISS.

The node's GPU is a number in its status and no device, so FAISS falls back to the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.support.buffers import READY_S, Buffer, manifest
from tests.e2e.support.kubectl import Json, Kubectl, command, eventually
from tests.e2e.support.operator import Operator

GPU = "nvidia.com/gpu"
SLICE = "nvidia.com/mig-1g.10gb"
SAMPLE = Path(__file__).parent.parent.parent / "configs" / "samples" / "gpu.yaml"


@pytest.fixture
def nodes(operator: Operator) -> list[str]:
    """Return the names of the nodes; skips where one has a GPU already."""
    del operator
    found: list[Json] = json.loads(command("kubectl", "get", "nodes", "--output", "json"))["items"]
    if any(node["status"]["capacity"].get(GPU, "0") != "0" for node in found):
        pytest.skip("a node of this cluster has GPUs of its own")
    return [node["metadata"]["name"] for node in found]


@pytest.mark.timeout(180)
def test_a_buffer_with_a_gpu_waits_for_a_node_that_has_one_and_tells_of_the_fallback(
    kubectl: Kubectl, nodes: list[str]
) -> None:
    """Pending with the scheduler's sentence; then on the node with the GPU, with backend and event saying why CPU."""
    buffer = Buffer(kubectl, "gpu")
    kubectl("apply", "--filename", str(SAMPLE))
    waiting = buffer.wait_condition("Ready", "False", 30, "Unschedulable")
    assert f"Insufficient {GPU}" in waiting["message"]
    assert buffer.status()["phase"] == "Pending"
    assert kubectl.existing("pod", buffer.pod_name)["status"]["phase"] == "Pending"

    with _advertised(nodes[-1]):
        buffer.wait_ready(READY_S)
        assert buffer.pod()["spec"]["nodeName"] == nodes[-1]
        backend = eventually(lambda: buffer.status().get("backend"), "the backend in the status", 20)
        assert (backend["requested"], backend["active"]) == ("gpu", "cpu")
        assert "GPU" in backend["reason"]
        eventually(lambda: backend["reason"] in _fallbacks(kubectl), "an event that tells of the fallback", 20)
        kubectl("delete", "--filename", str(SAMPLE), "--timeout=20s")
        eventually(lambda: kubectl.get("pod", buffer.pod_name) is None, "the pod to give the GPU back", 60)


@pytest.mark.timeout(240)
def test_a_buffer_that_must_have_its_slice_does_not_serve_from_the_cpu(kubectl: Kubectl, nodes: list[str]) -> None:
    """It runs on the node that offers the slice, is not ready, and says why; allowed to fall back, it serves."""
    buffer = Buffer(kubectl)
    with _advertised(nodes[-1], SLICE):
        kubectl.apply(manifest(gpu={"migProfile": "1g.10gb", "fallback": "Forbidden"}))
        ready = buffer.wait_condition("Ready", "False", READY_S, "GpuUnusable")
        assert "gpu.fallback is Forbidden" in ready["message"]
        assert buffer.pod()["spec"]["nodeName"] == nodes[-1]
        assert buffer.pod()["spec"]["containers"][0]["resources"]["limits"] == {SLICE: "1"}
        assert buffer.condition("Available")["status"] == "False"
        buffer.patch({"gpu": {"fallback": "Allowed"}})
        buffer.wait_ready(READY_S)
        kubectl("delete", "experiencebuffer", buffer.name, "--timeout=20s")
        eventually(lambda: kubectl.get("pod", buffer.pod_name) is None, "the pod to give the slice back", 60)


@contextmanager
def _advertised(node: str, resource: str = GPU) -> Iterator[None]:
    """Have the scheduler count one GPU, or one slice, on a node."""
    places = ("capacity", "allocatable")
    path = "/status/{}/" + resource.replace("/", "~1")
    _patch(node, [{"op": "add", "path": path.format(place), "value": "1"} for place in places])
    try:
        yield
    finally:
        _patch(node, [{"op": "remove", "path": path.format(place)} for place in places])


def _patch(node: str, operations: list[Json]) -> None:
    patch = json.dumps(operations)
    command("kubectl", "patch", "node", node, "--subresource=status", "--type=json", "--patch", patch)


def _fallbacks(kubectl: Kubectl) -> list[str]:
    return [event["message"] for event in kubectl.list("events") if event["reason"] == "BackendFellBack"]
