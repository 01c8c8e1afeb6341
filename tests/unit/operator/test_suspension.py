"""Buffers that stand still on purpose: suspended, or paused."""

from __future__ import annotations

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import CLAIM, POD, SERVICE, STATEFUL_SET

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster


def _pause(world: ModelCluster, words: str | None) -> None:
    annotations = world.buffer()["metadata"].setdefault("annotations", {})
    annotations.pop(labels.PAUSED, None)
    if words is not None:
        annotations[labels.PAUSED] = words
    world.touch(world.buffer())


async def test_a_suspended_buffer_has_no_pod_and_keeps_its_volume(world: ModelCluster, operator: Driver) -> None:
    """The pod goes, with it the GPU; volume, Services and records stay, and the status says so."""
    world.change_spec(gpu={"count": 1})
    world.append(7)
    await operator.rounds(5)
    uid = world.claim()["metadata"]["uid"]
    world.change_spec(suspend=True)
    await operator.rounds(4)
    status = world.buffer()["status"]
    assert world.named(POD) == []
    assert world.claim()["metadata"]["uid"] == uid
    assert world.named(SERVICE) == ["demo", "demo-pods"]
    assert (status["phase"], status["ready"], status["records"]) == ("Suspended", "0/0", 7)
    assert (world.condition("Ready")["status"], world.condition("Ready")["reason"]) == ("False", "Suspended")
    assert world.condition("Available")["reason"] == "Suspended"
    assert world.condition("Progressing")["reason"] == "Settled"
    before = len(world.writes)
    await operator.rounds(3)
    assert world.writes[before:] == []


async def test_no_rebuild_starts_while_a_buffer_is_suspended(world: ModelCluster, operator: Driver) -> None:
    """Not in the visit that takes the pod away either; afterwards what waited is caught up with."""
    await operator.rounds(4)
    world.append(600)
    world.change_spec(suspend=True)
    await operator.rounds(5)
    assert world.job_generations == []
    world.change_spec(suspend=False)
    await operator.rounds(12)
    assert world.job_generations == [1]
    assert world.condition("IndexCurrent")["reason"] == "Served"


async def test_a_resumed_buffer_serves_as_before(world: ModelCluster, operator: Driver) -> None:
    """Ready again over the same volume, at the same generation."""
    world.append(600)
    await operator.rounds(12)
    claim, pointer = world.claim()["metadata"]["uid"], world.pointer()
    world.change_spec(suspend=True)
    await operator.rounds(4)
    world.change_spec(suspend=False)
    await operator.rounds(5)
    assert world.condition("Ready")["status"] == "True"
    assert world.buffer()["status"]["phase"] == "Ready"
    assert (world.claim()["metadata"]["uid"], world.pointer()) == (claim, pointer)


async def test_scaling_to_zero_suspends(world: ModelCluster, operator: Driver) -> None:
    """What ``kubectl scale`` writes has the same effect."""
    await operator.rounds(4)
    world.change_spec(replicas=0)
    await operator.rounds(3)
    assert world.named(POD) == []
    assert world.buffer()["status"]["phase"] == "Suspended"


async def test_a_buffer_can_be_suspended_from_the_start(world: ModelCluster, operator: Driver) -> None:
    """Everything is made but the pod and its volume."""
    world.change_spec(suspend=True)
    await operator.rounds(4)
    assert world.named(STATEFUL_SET) == ["demo"]
    assert world.named(POD) == world.named(CLAIM) == []
    assert world.condition("Ready")["reason"] == "Suspended"


async def test_a_paused_buffer_is_not_touched(world: ModelCluster, operator: Driver) -> None:
    """Neither a change of the spec nor drift is acted on: only the status is written."""
    await operator.rounds(5)
    _pause(world, "ann: node maintenance until Friday")
    world.change_spec(capacity=7)
    world.delete(SERVICE, "demo")
    world.append(600)
    before = len(world.writes)
    await operator.rounds(4)
    assert set(world.writes[before:]) <= {"status", "create Event"}
    assert world.named(SERVICE) == ["demo-pods"]


async def test_a_pause_says_who_why_and_what_waits(world: ModelCluster, operator: Driver) -> None:
    """By the same planner that would act."""
    await operator.rounds(5)
    _pause(world, "ann: node maintenance until Friday")
    await operator.rounds(2)
    nothing = world.condition("Paused")
    assert (nothing["status"], nothing["reason"]) == ("True", "NothingPending")
    assert "(ann: node maintenance until Friday)" in nothing["message"]
    world.change_spec(capacity=7)
    world.delete(SERVICE, "demo")
    await operator.rounds(2)
    waits = world.condition("Paused")
    assert waits["reason"] == "ChangesPending"
    assert "apply Service demo; apply StatefulSet demo; restart demo-0 (SettingsChanged)" in waits["message"]
    assert world.buffer()["status"]["phase"] == "Paused"
    assert world.condition("Progressing")["reason"] == "Paused"
    assert world.condition("Ready")["status"] == "True"


async def test_after_a_pause_everything_is_caught_up_with(world: ModelCluster, operator: Driver) -> None:
    """Paused is false again, and the spec is followed."""
    await operator.rounds(5)
    _pause(world, "")
    world.change_spec(capacity=7)
    world.append(600)
    await operator.rounds(3)
    _pause(world, None)
    await operator.rounds(14)
    assert (world.condition("Paused")["status"], world.condition("Paused")["reason"]) == ("False", "Active")
    environment = world.objects[POD, "demo-0"]["spec"]["containers"][0]["env"]
    assert {"name": "XBUF_BUFFER__CAPACITY", "value": "7"} in environment
    assert world.condition("IndexCurrent")["reason"] == "Served"


async def test_the_word_false_does_not_pause(world: ModelCluster, operator: Driver) -> None:
    """Whoever writes it means that it is not paused."""
    await operator.rounds(4)
    _pause(world, "false")
    world.change_spec(capacity=7)
    await operator.rounds(3)
    assert world.condition("Paused")["status"] == "False"
    assert world.condition("Progressing")["reason"] == "Settled"
