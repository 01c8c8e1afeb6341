"""Restarts: why they happen, and where they are told."""

from __future__ import annotations

import pytest
from buffer_operator.kube.kinds import EVENT, POD, STATEFUL_SET, Json

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster


def _pod_uid(world: ModelCluster) -> str:
    uid: str = world.objects[POD, "demo-0"]["metadata"]["uid"]
    return uid


def _events(world: ModelCluster, reason: str) -> list[str]:
    return [item["message"] for (kind, _), item in world.objects.items() if kind == EVENT and item["reason"] == reason]


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"capacity": 7}, "SettingsChanged", "XBUF_BUFFER__CAPACITY from 100000 to 7"),
        ({"image": "experience-buffer:2"}, "ImageChanged", "from experience-buffer:1 to experience-buffer:2"),
        ({"resources": {"limits": {"memory": "1Gi"}}}, "ResourcesChanged", "requests or limits"),
        ({"podTemplate": {"spec": {"priorityClassName": "high"}}}, "PodTemplateChanged", "its template has changed"),
    ],
)
async def test_a_restart_is_told_with_its_reason(
    world: ModelCluster, operator: Driver, change: Json, reason: str, words: str
) -> None:
    """In the status before it happens, in an Event for later; afterwards nothing is pending."""
    await operator.rounds(5)
    uid = _pod_uid(world)
    world.change_spec(**change)
    await operator.visit()
    (pending,) = world.buffer()["status"]["pendingRestarts"]
    assert (pending["pod"], pending["reason"], words in pending["message"]) == ("demo-0", reason, True)
    await operator.rounds(5)
    assert _pod_uid(world) != uid
    assert "pendingRestarts" not in world.buffer()["status"]
    (event,) = _events(world, reason)
    assert words in event


async def test_the_same_restart_twice_is_two_events(world: ModelCluster, operator: Driver) -> None:
    """Back and forth and forth again: each has its generation of the spec."""
    for capacity in (7, 100_000, 7):
        world.change_spec(capacity=capacity)
        await operator.rounds(5)
    assert len(_events(world, "SettingsChanged")) == 2
    assert len([text for text in _events(world, "SettingsChanged") if "to 7" in text]) == 1


async def test_a_stuck_rollout_is_repaired_after_a_revert(world: ModelCluster, operator: Driver) -> None:
    """The pod waits for an image that nobody wants any more, and nothing else would replace it."""
    await operator.rounds(5)
    world.rollouts_get_stuck, world.bad_images = True, {"experience-buffer:broken"}
    world.change_spec(image="experience-buffer:broken")
    await operator.rounds(6)
    assert world.condition("Ready")["reason"] == "ImageUnavailable"
    stuck = _pod_uid(world)
    world.change_spec(image="experience-buffer:1")
    await operator.rounds(6)
    assert _pod_uid(world) != stuck
    assert world.condition("Ready")["status"] == "True"
    assert world.writes.count("evict Pod") == 1
    (event,) = _events(world, "RolloutStuck")
    assert "Back-off pulling image experience-buffer:broken" in event


async def test_a_pod_that_is_wanted_as_it_is_is_never_evicted(world: ModelCluster, operator: Driver) -> None:
    """A broken template that is still wanted is waited for: another pod of it would be no better."""
    world.bad_images = {"experience-buffer:broken"}
    world.change_spec(image="experience-buffer:broken")
    await operator.rounds(20, seconds=60)
    assert "evict Pod" not in world.writes


async def test_a_pod_that_a_webhook_has_changed_is_not_about_to_be_restarted(
    world: ModelCluster, operator: Driver
) -> None:
    """An image from a mirror, a variable more: the template is as it was."""
    await operator.rounds(5)
    container = world.objects[POD, "demo-0"]["spec"]["containers"][0]
    container["image"] = "mirror/experience-buffer:1"
    container["env"].append({"name": "INJECTED", "value": "1"})
    before = len(world.writes)
    await operator.rounds(3)
    assert world.writes[before:] == []


async def test_a_field_that_is_given_up_is_a_restart_too(world: ModelCluster, operator: Driver) -> None:
    """What was asked for once and is no longer."""
    world.change_spec(podTemplate={"spec": {"priorityClassName": "high"}})
    await operator.rounds(5)
    world.change_spec(podTemplate={})
    await operator.visit()
    assert [restart["reason"] for restart in world.buffer()["status"]["pendingRestarts"]] == ["PodTemplateChanged"]


async def test_a_suspended_buffer_has_no_pending_restarts(world: ModelCluster, operator: Driver) -> None:
    """Its pod goes for good."""
    await operator.rounds(5)
    world.change_spec(suspend=True, capacity=7)
    await operator.visit()
    assert "pendingRestarts" not in world.buffer()["status"]


async def test_a_template_changed_by_somebody_else_is_told(world: ModelCluster, operator: Driver) -> None:
    """``kubectl rollout restart`` adds an annotation that is not the operator's; the restart is not its, either."""
    await operator.rounds(5)
    world.pods_follow = False
    template = world.objects[STATEFUL_SET, "demo"]["spec"]["template"]
    template["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
    world.rollouts_get_stuck = True
    world.objects[POD, "demo-0"]["status"] = {}
    world.run_workloads()
    await operator.visit()
    assert [restart["reason"] for restart in world.buffer()["status"]["pendingRestarts"]] == ["PodTemplateChanged"]
