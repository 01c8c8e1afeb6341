"""A pod whose node has fallen silent says so by what its conditions contradict each other in."""

from __future__ import annotations

import pytest
from buffer_operator.kube.kinds import POD, Json
from buffer_operator.resource.conditions import Reason

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster


def _conditions(ready: str, containers: str) -> list[Json]:
    return [{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": containers}]


@pytest.mark.parametrize(
    ("ready", "containers", "lost"), [("False", "True", True), ("False", "False", False), ("True", "True", False)]
)
async def test_only_the_control_plane_says_not_ready_of_ready_containers(
    world: ModelCluster,
    operator: Driver,
    ready: str,
    containers: str,
    lost: bool,  # noqa: FBT001
) -> None:
    """The condition names the node; nothing is done to the pod, whose volume may be there alone."""
    await operator.rounds(4)
    pod = world.objects[POD, "demo-0"]
    uid = pod["metadata"]["uid"]
    pod["spec"]["nodeName"] = "far-away"
    pod["status"]["conditions"] = _conditions(ready, containers)
    await operator.visit()
    found = world.condition("Ready")
    assert (found["reason"] == Reason.NODE_LOST) is lost
    assert ("far-away" in found["message"]) is lost
    assert world.objects[POD, "demo-0"]["metadata"]["uid"] == uid
