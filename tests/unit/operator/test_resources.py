"""What a buffer is made of, and that it stays so."""

from __future__ import annotations

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import (
    CONFIG_MAP,
    POD,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
)

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster


async def test_a_new_buffer_gets_every_object(world: ModelCluster, operator: Driver) -> None:
    """Names are those of the contract; each object leaves with the buffer."""
    await operator.rounds(4)
    assert world.named(SERVICE_ACCOUNT) == ["demo", "demo-rebuild"]
    assert world.named(ROLE) == world.named(ROLE_BINDING) == ["demo-rebuild"]
    assert world.named(SECRET) == ["demo-token"]
    assert world.named(CONFIG_MAP) == ["demo-index"]
    assert world.named(SERVICE) == ["demo", "demo-pods"]
    assert world.named(STATEFUL_SET) == ["demo"]
    uid = world.buffer()["metadata"]["uid"]
    for (kind, name), item in world.objects.items():
        if kind in (SERVICE_ACCOUNT, ROLE, ROLE_BINDING, SECRET, CONFIG_MAP, SERVICE, STATEFUL_SET):
            assert [owner["uid"] for owner in item["metadata"]["ownerReferences"]] == [uid], name
            assert item["metadata"]["labels"][labels.BUFFER] == "demo", name


async def test_a_buffer_at_rest_is_never_written_to(world: ModelCluster, operator: Driver) -> None:
    """No difference, no request that writes."""
    await operator.rounds(6)
    before = list(world.writes)
    await operator.rounds(5)
    assert world.writes == before


async def test_tokens_are_made_once_and_never_again(world: ModelCluster, operator: Driver) -> None:
    """Rotated by hand, they stay as they are."""
    await operator.rounds(4)
    secret = world.objects[SECRET, "demo-token"]
    assert sorted(secret["data"]) == ["admin", "read", "write"]
    assert len(set(secret["data"].values())) == 3
    secret["data"]["write"] = "cm90YXRlZA=="
    await operator.rounds(4)
    assert world.objects[SECRET, "demo-token"]["data"]["write"] == "cm90YXRlZA=="


async def test_a_field_changed_by_hand_is_put_back(world: ModelCluster, operator: Driver) -> None:
    """Drift of a field that the operator owns does not last."""
    await operator.rounds(4)
    world.objects[SERVICE, "demo"]["spec"]["ports"][0]["port"] = 81
    await operator.rounds(2)
    assert world.objects[SERVICE, "demo"]["spec"]["ports"][0]["port"] == 80


async def test_fields_of_others_are_no_drift(world: ModelCluster, operator: Driver) -> None:
    """What the API server or an administrator adds stays, without a write."""
    await operator.rounds(5)
    world.objects[SERVICE, "demo"]["metadata"]["annotations"]["team"] = "vision"
    world.objects[STATEFUL_SET, "demo"]["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    before = len(world.writes)
    await operator.visit()
    assert world.writes[before:] == []


async def test_a_field_that_is_given_up_is_removed(world: ModelCluster, operator: Driver) -> None:
    """A buffer that no longer asks for a GPU no longer holds one."""
    world.change_spec(gpu={"count": 1})
    await operator.rounds(4)
    limits = world.objects[STATEFUL_SET, "demo"]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"nvidia.com/gpu": "1"}
    del world.buffer()["spec"]["gpu"]
    await operator.rounds(4)
    container = world.objects[STATEFUL_SET, "demo"]["spec"]["template"]["spec"]["containers"][0]
    assert "resources" not in container


async def test_an_operator_with_another_image_restarts_no_pod(world: ModelCluster, operator: Driver) -> None:
    """Where the spec names no image, the buffer keeps its own; a named one is followed."""
    await operator.rounds(4)
    uid = world.objects[POD, "demo-0"]["metadata"]["uid"]
    operator.restart(image="experience-buffer:2")
    await operator.rounds(4)
    assert world.objects[POD, "demo-0"]["metadata"]["uid"] == uid
    world.change_spec(image="experience-buffer:2")
    await operator.rounds(4)
    assert world.objects[POD, "demo-0"]["spec"]["containers"][0]["image"] == "experience-buffer:2"


async def test_when_to_rebuild_can_be_changed_without_a_restart(world: ModelCluster, operator: Driver) -> None:
    """It is the operator's business; the pod need not know."""
    await operator.rounds(4)
    uid = world.objects[POD, "demo-0"]["metadata"]["uid"]
    world.change_spec(rebuild={"everyOperations": 5, "keepGenerations": 7})
    world.append(5)
    await operator.rounds(8)
    assert world.job_generations == [1]
    assert world.objects[POD, "demo-0"]["metadata"]["uid"] == uid


async def test_objects_of_somebody_else_are_left_alone(world: ModelCluster, operator: Driver) -> None:
    """A Service of the same name is not taken over: the condition names it, nothing is written but the status."""
    world.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo", "namespace": "default"}, "spec": {}})
    await operator.rounds(3)
    assert world.condition("Ready")["reason"] == "NameTaken"
    assert "Service demo" in world.condition("Ready")["message"]
    assert set(world.writes) == {"status", "create Event"}
    world.delete(SERVICE, "demo")
    await operator.rounds(4)
    assert world.condition("Ready")["status"] == "True"


async def test_a_deleted_buffer_is_forgotten(world: ModelCluster, operator: Driver) -> None:
    """Its key is not visited again, and nothing of it is made anew."""
    await operator.rounds(4)
    world.delete(next(kind for kind, name in world.objects if kind.name == "ExperienceBuffer"), "demo")
    before = len(world.writes)
    assert await operator.visit() is None
    assert world.writes[before:] == []
