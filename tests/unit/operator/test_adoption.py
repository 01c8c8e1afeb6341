"""What becomes of a volume when its buffer is deleted, and of one that is there when a buffer is made."""

from __future__ import annotations

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import BUFFER, CLAIM, POD, STATEFUL_SET

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_api import SPEC
from tests.unit.operator.model_cluster import ModelCluster


async def test_a_volume_is_kept_unless_the_spec_says_otherwise(world: ModelCluster, operator: Driver) -> None:
    """Retain is the default; Delete has the buffer own it, and can be taken back."""
    await operator.rounds(5)
    world.delete(BUFFER, "demo")
    assert world.named(CLAIM) == ["data-demo-0"]
    assert world.named(STATEFUL_SET) == world.named(POD) == []
    world.make_buffer(spec={**SPEC, "persistence": {"whenDeleted": "Delete"}})
    await operator.rounds(5)
    world.delete(BUFFER, "demo")
    assert world.named(CLAIM) == []


async def test_a_volume_that_goes_with_its_buffer_does_not_go_with_its_stateful_set(
    world: ModelCluster, operator: Driver
) -> None:
    """Deleted by hand, the StatefulSet comes back and finds the volume."""
    world.change_spec(persistence={"whenDeleted": "Delete"})
    await operator.rounds(5)
    uid = world.claim()["metadata"]["uid"]
    world.delete(STATEFUL_SET, "demo")
    await operator.rounds(5)
    assert world.claim()["metadata"]["uid"] == uid
    world.change_spec(persistence={"whenDeleted": "Retain"})
    await operator.rounds(3)
    assert world.claim()["metadata"]["ownerReferences"] == []


async def test_what_a_volume_holds_is_noted_once(world: ModelCluster, operator: Driver) -> None:
    """In words, at the claim, which outlives the buffer."""
    await operator.rounds(6)
    annotations = world.claim()["metadata"]["annotations"]
    assert annotations[labels.CONTENT] == "dimension 64, metric cosine, backend lmdb"
    before = len(world.writes)
    await operator.rounds(3)
    assert world.writes[before:] == []


async def test_a_larger_volume_is_taken_up_as_it_is(world: ModelCluster, operator: Driver) -> None:
    """The new buffer asks for less than there is: nothing shrinks, and what comes later is as large."""
    await operator.rounds(5)
    world.change_spec(persistence={"size": "20Gi"})
    await operator.rounds(8)
    world.delete(BUFFER, "demo")
    world.make_buffer()
    await operator.rounds(8)
    (template,) = world.objects[STATEFUL_SET, "demo"]["spec"]["volumeClaimTemplates"]
    assert template["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert world.claim()["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert world.buffer()["status"]["volumes"][0]["actual"] == "20Gi"
    assert (world.condition("Ready")["status"], world.condition("StorageHealthy")["status"]) == ("True", "True")


async def test_a_smaller_volume_is_taken_up_and_grows(world: ModelCluster, operator: Driver) -> None:
    """The new buffer asks for more than there is."""
    await operator.rounds(5)
    world.delete(BUFFER, "demo")
    world.make_buffer(spec={**SPEC, "persistence": {"size": "20Gi"}})
    await operator.rounds(8)
    assert world.buffer()["status"]["volumes"][0]["actual"] == "20Gi"


async def test_a_volume_that_was_deleted_by_mistake_is_held_by_its_pod(world: ModelCluster, operator: Driver) -> None:
    """Nothing that would end the pod is done while there is time for a backup, and the condition says so."""
    await operator.rounds(6)
    uid, volume = world.objects[POD, "demo-0"]["metadata"]["uid"], world.claim()["metadata"]["uid"]
    world.claim()["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    for change in ({"capacity": 7}, {"suspend": True}, {"suspend": False, "persistence": {"size": "20Gi"}}):
        world.change_spec(**change)
        await operator.rounds(3)
    assert world.objects[POD, "demo-0"]["metadata"]["uid"] == uid
    condition = world.condition("StorageHealthy")
    assert (condition["status"], condition["reason"]) == ("False", "VolumeDeleted")
    world.delete(POD, "demo-0")
    await operator.rounds(8)
    assert world.claim()["metadata"]["uid"] != volume
    assert world.condition("StorageHealthy")["status"] == "True"


async def test_a_stateful_set_of_somebody_else_is_only_named(world: ModelCluster, operator: Driver) -> None:
    """It may have no claim template; nothing about it is ours to understand."""
    template = {"metadata": {}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    metadata = {"name": "demo", "namespace": "default"}
    spec = {"replicas": 0, "template": template}
    world.objects.pop((STATEFUL_SET, "demo"), None)
    world.put({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})
    await operator.visit()
    await operator.visit()
    assert world.condition("Ready")["reason"] == "NameTaken"
    assert "StatefulSet demo" in world.condition("Ready")["message"]


async def test_a_volume_of_another_dimension_is_not_opened(world: ModelCluster, operator: Driver) -> None:
    """No pod crashes for it: the condition says what is there, what is wanted and what can be done."""
    await operator.rounds(6)
    world.delete(BUFFER, "demo")
    world.make_buffer(spec={**SPEC, "embedding": {"dimension": 128}})
    await operator.rounds(5)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "VolumeUnusable")
    assert "dimension 64" in ready["message"]
    assert "dimension 128" in ready["message"]
    assert "delete the claim" in ready["message"]
    assert world.buffer()["status"]["phase"] == "Blocked"
    assert world.named(POD) == world.named(STATEFUL_SET) == []
    world.delete(CLAIM, "data-demo-0")
    await operator.rounds(3)
    assert world.named(POD) == ["demo-0"]
