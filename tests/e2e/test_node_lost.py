"""A node goes away with a buffer on it: the condition says so, the pod is left alone, all is there when it returns.

The volume is on the node, so nobody else can serve. The node is a container of kind's, frozen and thawed; where the
cluster is not kind's there is nothing to freeze.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import start_client, start_load
from tests.e2e.support.kubectl import Kubectl, command, eventually
from tests.e2e.support.measured import Measured
from tests.e2e.support.operator import Operator

NOTICED_BAR_S = 90.0
BACK_BAR_S = 40.0


@pytest.fixture
def worker() -> str:
    """Return a node that can be frozen without the control plane."""
    name = command(
        "kubectl", "get", "nodes", "--selector", "!node-role.kubernetes.io/control-plane", "--output", "name"
    )
    first = name.split()[0].removeprefix("node/") if name.split() else ""
    found = subprocess.run(["docker", "inspect", first], capture_output=True, check=False) if first else None
    if found is None or found.returncode != 0:
        pytest.skip("no node of this cluster is a container of this machine")
    return first


@contextmanager
def _frozen(node: str) -> Iterator[None]:
    command("docker", "pause", node)
    try:
        yield
    finally:
        command("docker", "unpause", node)


@pytest.mark.timeout(300)
def test_a_buffer_on_a_lost_node_says_so_and_is_back_with_it(
    kubectl: Kubectl, operator: Operator, image: str, worker: str, measured: Measured
) -> None:
    """Every acknowledged experience is there afterwards, in the same pod. The operator is on another node."""
    buffer = Buffer(kubectl)
    placed = {"spec": {"nodeSelector": {"kubernetes.io/hostname": worker}}}
    kubectl.apply(manifest(podTemplate=placed))
    buffer.wait_ready()
    assert buffer.pod()["spec"]["nodeName"] == worker
    load = start_load(buffer, image, rows=200)
    load.wait_progress("acknowledged", 200)
    written = load.stop()["acknowledged"]
    pod = buffer.pod()["metadata"]["uid"]
    with operator.away_from(worker), _frozen(worker):
        found = {}

        def noticed() -> None:
            found.update(buffer.wait_condition("Ready", "False", NOTICED_BAR_S, "NodeLost"))

        measured.below("node frozen: until the condition says so", measured.time(noticed), NOTICED_BAR_S)
        assert worker in found["message"]
        assert "deletionTimestamp" not in buffer.pod()["metadata"]
    seconds = measured.time(lambda: buffer.wait_ready(120))
    measured.below("node thawed: until Ready", seconds, BACK_BAR_S)
    assert buffer.pod()["metadata"]["uid"] == pod
    counted = eventually(lambda: start_client(buffer, image, "count", "count.py").result(), "the count", 60)
    assert counted == {"records": written, "rows": written, "not_found": []}
