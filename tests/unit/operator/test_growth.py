"""Volumes that grow when they are asked to, around a pod that goes on."""

from __future__ import annotations

import pytest
from buffer_operator.kube.kinds import CLAIM, POD, STATEFUL_SET
from buffer_operator.resource.conditions import timestamp

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster


def _requested(world: ModelCluster) -> str:
    size: str = world.claim()["spec"]["resources"]["requests"]["storage"]
    return size


def _template(world: ModelCluster) -> str:
    (template,) = world.objects[STATEFUL_SET, "demo"]["spec"]["volumeClaimTemplates"]
    size: str = template["spec"]["resources"]["requests"]["storage"]
    return size


async def test_a_larger_size_grows_the_volume_and_restarts_no_pod(world: ModelCluster, operator: Driver) -> None:
    """The claim asks for more, the StatefulSet is another one with the larger template, the pod is the same."""
    await operator.rounds(5)
    pod, before = (
        world.objects[POD, "demo-0"]["metadata"]["uid"],
        world.objects[STATEFUL_SET, "demo"]["metadata"]["uid"],
    )
    world.change_spec(persistence={"size": "20Gi"})
    await operator.rounds(10)
    assert (_requested(world), _template(world)) == ("20Gi", "20Gi")
    assert world.objects[STATEFUL_SET, "demo"]["metadata"]["uid"] != before
    metadata = world.objects[POD, "demo-0"]["metadata"]
    assert metadata["uid"] == pod
    assert [owner["uid"] for owner in metadata["ownerReferences"]] == [
        world.objects[STATEFUL_SET, "demo"]["metadata"]["uid"]
    ]
    (volume,) = world.buffer()["status"]["volumes"]
    assert (volume["requested"], volume["actual"], volume["phase"]) == ("20Gi", "20Gi", "Bound")
    assert world.condition("StorageHealthy")["reason"] == "VolumeHealthy"


async def test_a_volume_that_goes_with_its_buffer_survives_the_new_stateful_set(
    world: ModelCluster, operator: Driver
) -> None:
    """The buffer owns it, no StatefulSet does."""
    world.change_spec(persistence={"size": "10Gi", "whenDeleted": "Delete"})
    await operator.rounds(5)
    uid = world.claim()["metadata"]["uid"]
    world.change_spec(persistence={"size": "20Gi", "whenDeleted": "Delete"})
    await operator.rounds(12)
    assert (world.claim()["metadata"]["uid"], _template(world)) == (uid, "20Gi")
    assert [owner["uid"] for owner in world.claim()["metadata"]["ownerReferences"]] == [
        world.buffer()["metadata"]["uid"]
    ]


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
@pytest.mark.parametrize("before", [True, False])
async def test_growth_survives_a_crash_at_every_write(policy: str, *, before: bool) -> None:
    """The operator ends before or after each write in turn; the pod and the volume live through all of it."""
    for crash_at in range(1, 30):
        world = ModelCluster()
        world.make_buffer()
        world.change_spec(persistence={"size": "10Gi", "whenDeleted": policy})
        operator = Driver(world)
        await operator.rounds(5)
        pod, claim = world.objects[POD, "demo-0"]["metadata"]["uid"], world.claim()["metadata"]["uid"]
        world.crash_at_write, world.crash_before = len(world.writes) + crash_at, before
        world.change_spec(persistence={"size": "20Gi", "whenDeleted": policy})
        await operator.rounds(16)
        assert (_requested(world), _template(world)) == ("20Gi", "20Gi"), crash_at
        assert world.claim()["metadata"]["uid"] == claim, crash_at
        found = world.objects[POD, "demo-0"]["metadata"]
        assert (found["uid"], len(found["ownerReferences"])) == (pod, 1), crash_at
        settled = len(world.writes)
        await operator.rounds(3)
        assert world.writes[settled:] == [], crash_at
        if world.crash_at_write is not None:
            return
    raise AssertionError("growth took more writes than were tried")


async def test_a_buffer_deleted_while_its_stateful_set_is_away_leaves_no_pod(
    world: ModelCluster, operator: Driver
) -> None:
    """The pod has the buffer for an owner then."""
    await operator.rounds(5)
    world.change_spec(persistence={"size": "20Gi"})
    while (STATEFUL_SET, "demo") in world.objects:
        await operator.visit()
        world.step()
    assert world.named(POD) == ["demo-0"]
    world.delete(next(kind for kind, _ in world.objects if kind.name == "ExperienceBuffer"), "demo")
    world.step()
    assert world.named(POD) == []
    assert world.named(CLAIM) == ["data-demo-0"]


async def test_a_storage_class_that_cannot_expand_is_said_and_holds_nothing_up(
    world: ModelCluster, operator: Driver
) -> None:
    """The condition has the API server's words; the rest of the spec is followed; it is tried again now and then."""
    await operator.rounds(5)
    world.expandable = False
    world.change_spec(persistence={"size": "20Gi"}, capacity=7)
    await operator.rounds(6)
    condition = world.condition("StorageHealthy")
    assert (condition["status"], condition["reason"]) == ("False", "ResizeRefused")
    assert "the storageclass that provisions the pvc must support resize" in condition["message"]
    assert {"name": "XBUF_BUFFER__CAPACITY", "value": "7"} in world.objects[POD, "demo-0"]["spec"]["containers"][0][
        "env"
    ]
    assert (world.condition("Ready")["status"], _template(world)) == ("True", "10Gi")
    before = len(world.writes)
    await operator.rounds(3)
    assert world.writes[before:] == []
    world.expandable = True
    await operator.rounds(8, seconds=100)
    assert _requested(world) == "20Gi"
    assert world.condition("StorageHealthy")["reason"] == "VolumeHealthy"


async def test_another_size_is_asked_for_at_once_after_a_refusal(world: ModelCluster, operator: Driver) -> None:
    """Somebody has changed something; there is no reason to wait."""
    await operator.rounds(5)
    world.expandable = False
    world.change_spec(persistence={"size": "20Gi"})
    await operator.rounds(3)
    world.expandable = True
    world.change_spec(persistence={"size": "21Gi"})
    await operator.rounds(3)
    assert _requested(world) == "21Gi"


async def test_a_file_system_that_waits_for_a_start_gets_one(world: ModelCluster, operator: Driver) -> None:
    """The node is given time to do it by itself; then the pod is restarted once, with the reason in the status."""
    await operator.rounds(5)
    world.resize = "at start"
    uid = world.objects[POD, "demo-0"]["metadata"]["uid"]
    world.change_spec(persistence={"size": "20Gi"})
    await operator.rounds(10)
    assert world.condition("StorageHealthy")["reason"] == "FileSystemResizePending"
    assert world.objects[POD, "demo-0"]["metadata"]["uid"] == uid
    await operator.rounds(12, seconds=10)
    assert world.objects[POD, "demo-0"]["metadata"]["uid"] != uid
    assert world.writes.count("evict Pod") == 1
    assert world.buffer()["status"]["volumes"][0]["actual"] == "20Gi"
    assert "FileSystemResize" in [item["reason"] for (kind, _), item in world.objects.items() if kind.name == "Event"]


async def test_a_disruption_budget_is_respected(world: ModelCluster, operator: Driver) -> None:
    """The pod stays while its budget says so; the status names what waits."""
    await operator.rounds(5)
    world.resize, world.budget_blocks = "at start", True
    uid = world.objects[POD, "demo-0"]["metadata"]["uid"]
    world.change_spec(persistence={"size": "20Gi"})
    await operator.rounds(20, seconds=10)
    assert world.objects[POD, "demo-0"]["metadata"]["uid"] == uid
    (restart,) = world.buffer()["status"]["pendingRestarts"]
    assert (restart["pod"], restart["reason"]) == ("demo-0", "FileSystemResize")
    world.append(600)
    await operator.rounds(12)
    assert world.condition("IndexCurrent")["reason"] == "Served", "everything else goes on"


async def test_a_resize_that_the_storage_gave_up_is_told_in_its_words(world: ModelCluster, operator: Driver) -> None:
    """A quota of the provider, for example."""
    await operator.rounds(5)
    world.resize = "fails"
    world.change_spec(persistence={"size": "20Gi"})
    await operator.rounds(6)
    condition = world.condition("StorageHealthy")
    assert (condition["reason"], "quota exceeded" in condition["message"]) == ("ResizeRefused", True)


async def test_a_suspended_buffer_grows_too(world: ModelCluster, operator: Driver) -> None:
    """Claim and StatefulSet at once; a pod that comes back finds the room."""
    await operator.rounds(5)
    world.change_spec(suspend=True)
    await operator.rounds(3)
    world.change_spec(persistence={"size": "20Gi"})
    await operator.rounds(6)
    assert (_requested(world), _template(world), world.named(POD)) == ("20Gi", "20Gi", [])
    world.change_spec(suspend=False)
    await operator.rounds(6)
    assert world.condition("Ready")["status"] == "True"


async def test_a_claim_grown_by_hand_is_followed(world: ModelCluster, operator: Driver) -> None:
    """The template comes after it, and nothing asks for less."""
    await operator.rounds(5)
    world.claim()["spec"]["resources"]["requests"]["storage"] = "30Gi"
    await operator.rounds(8)
    assert (_requested(world), _template(world)) == ("30Gi", "30Gi")


async def test_a_lost_volume_is_a_condition(world: ModelCluster, operator: Driver) -> None:
    """Nobody else would say that the data is gone."""
    await operator.rounds(5)
    world.claim()["status"] = {"phase": "Lost", "capacity": {"storage": "10Gi"}}
    await operator.visit()
    assert world.condition("StorageHealthy")["reason"] == "VolumeLost"
    assert timestamp(world.now) == world.condition("StorageHealthy")["lastTransitionTime"]
