"""Objects that a buffer has only where its spec asks for them, and tokens that are the user's."""

from __future__ import annotations

import base64

import pytest
from buffer_operator.kube.kinds import (
    DISRUPTION_BUDGET,
    EVENT,
    NETWORK_POLICY,
    POD,
    POD_MONITOR,
    SECRET,
    STATEFUL_SET,
    Json,
    Kind,
)

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_api import NAMESPACE
from tests.unit.operator.model_cluster import ModelCluster

ASKED: list[tuple[Kind, Json]] = [
    (NETWORK_POLICY, {"networkPolicy": {"enabled": True}}),
    (DISRUPTION_BUDGET, {"disruptionBudget": "Block"}),
    (POD_MONITOR, {"monitoring": {"podMonitor": True}}),
]


def _secret(world: ModelCluster, name: str, **tokens: str) -> None:
    data = {scope: base64.b64encode(token.encode()).decode() for scope, token in tokens.items()}
    metadata = {"name": name, "namespace": NAMESPACE}
    world.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


@pytest.mark.parametrize(("kind", "fields"), ASKED, ids=lambda one: getattr(one, "name", ""))
async def test_it_comes_when_asked_for_and_goes_when_not(
    world: ModelCluster, operator: Driver, kind: Kind, fields: Json
) -> None:
    """Without a restart, and at rest there is nothing to write."""
    await operator.rounds(4)
    assert world.named(kind) == []
    uid = world.objects[POD, "demo-0"]["metadata"]["uid"]
    world.change_spec(**fields)
    await operator.rounds(3)
    assert world.named(kind) == ["demo"]
    at_rest = list(world.writes)
    await operator.rounds(3)
    assert world.writes == at_rest
    for field in fields:
        del world.buffer()["spec"][field]
    world.touch(world.buffer(), spec_changed=True)
    await operator.rounds(3)
    assert world.named(kind) == []
    assert world.objects[POD, "demo-0"]["metadata"]["uid"] == uid


async def test_a_pod_monitor_is_made_only_where_the_kind_is_known(world: ModelCluster, operator: Driver) -> None:
    """The kind is neither read nor written elsewhere, and the buffer is ready all the same."""
    world.unknown_kinds = {POD_MONITOR}
    world.change_spec(monitoring={"podMonitor": True})
    await operator.rounds(4)
    assert world.named(POD_MONITOR) == []
    assert world.condition("Ready")["status"] == "True"
    assert "the cluster does not know that kind" in world.condition("Progressing")["message"]


async def test_a_policy_of_the_same_name_is_in_the_way_only_where_one_is_asked_for(
    world: ModelCluster, operator: Driver
) -> None:
    """Somebody's own policy is neither taken over nor removed."""
    theirs = {"apiVersion": NETWORK_POLICY.api_version, "kind": "NetworkPolicy", "spec": {}}
    world.put({**theirs, "metadata": {"name": "demo", "namespace": NAMESPACE}})
    await operator.rounds(4)
    assert world.condition("Ready")["status"] == "True"
    world.change_spec(networkPolicy={"enabled": True})
    await operator.rounds(3)
    assert world.condition("Ready")["reason"] == "NameTaken"
    assert world.objects[NETWORK_POLICY, "demo"]["spec"] == {}


async def test_tokens_of_the_user_are_used_and_none_are_made(world: ModelCluster, operator: Driver) -> None:
    """The Secret is theirs: it is read, and neither owned nor written."""
    _secret(world, "shared", read="r", write="w", admin="a")
    before = dict(world.objects[SECRET, "shared"]["metadata"])
    world.change_spec(auth={"secretName": "shared"})
    world.append(7)
    await operator.rounds(5)
    assert world.named(SECRET) == ["shared"]
    assert world.objects[SECRET, "shared"]["metadata"] == before
    assert world.condition("Ready")["status"] == "True"
    assert world.buffer()["status"]["records"] == 7


async def test_a_secret_that_is_missing_is_named(world: ModelCluster, operator: Driver) -> None:
    """Its pod waits for the mount; the condition says for what. Once it is there all goes on."""
    world.no_node = True
    world.change_spec(auth={"secretName": "demo-token"})
    await operator.rounds(4)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "SecretUnusable")
    assert "Secret demo-token, which auth.secretName names, does not exist" in ready["message"]
    _secret(world, "demo-token", read="r")
    await operator.rounds(2)
    assert "no token under the key admin" in world.condition("Ready")["message"]
    world.delete(SECRET, "demo-token")
    _secret(world, "demo-token", admin="a")
    world.no_node = False
    await operator.rounds(3)
    assert world.condition("Ready")["status"] == "True"


async def test_a_pod_that_may_not_fall_back_says_that_it_has_no_gpu(world: ModelCluster, operator: Driver) -> None:
    """It is asked although it is not ready, for it knows why."""
    world.pods_ready = False
    world.change_spec(gpu={"fallback": "Forbidden"})
    await operator.rounds(5)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "GpuUnusable")
    assert "no GPU can be used" in ready["message"]
    assert world.condition("Available")["reason"] == "NoReadyPod"
    environment = world.objects[STATEFUL_SET, "demo"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "XBUF_INDEX__GPU_REQUIRED", "value": "true"} in environment


async def test_an_event_that_is_said_again_is_counted(world: ModelCluster, operator: Driver) -> None:
    """One object for one sentence, however often the pod comes and goes."""
    await operator.rounds(5)
    for _ in range(3):
        world.delete(POD, "demo-0")
        await operator.rounds(5)
    events = [item for (kind, _), item in world.objects.items() if kind == EVENT]
    lost = [event for event in events if event["reason"] == "NoReadyPod"]
    assert [(event["type"], event["count"]) for event in lost] == [("Warning", 3)]
    assert lost[0]["lastTimestamp"] > lost[0]["firstTimestamp"]


async def test_a_store_that_takes_no_writes_leaves_reads_available(world: ModelCluster, operator: Driver) -> None:
    """The condition stays True, for clients get answers; its reason says which ones they do not get."""
    await operator.rounds(5)
    assert world.condition("Available")["reason"] == "Serving"
    world.process.unwritable = "the disk is full"
    await operator.rounds(2)
    available = world.condition("Available")
    assert (available["status"], available["reason"]) == ("True", "ReadOnly")
    assert "the disk is full" in available["message"]
