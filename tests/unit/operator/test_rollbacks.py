"""Going back: because somebody asked for it, because a pod refuses, because a pod cannot bear it."""

from __future__ import annotations

import pytest
from buffer_operator.kube import labels
from buffer_operator.kube.kinds import EVENT, JOB, Json

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster


async def _generations(world: ModelCluster, operator: Driver, count: int) -> None:
    for _ in range(count):
        world.append(600)
        await operator.rounds(8)
    assert world.pointer().generation == count


def _ask(world: ModelCluster, request: str) -> None:
    world.annotate(labels.ROLLBACK_TO, request)


def _rollback(world: ModelCluster) -> Json:
    found: Json = world.buffer()["status"]["rollback"]
    return found


async def test_a_rollback_by_hand_is_carried_out_and_told(world: ModelCluster, operator: Driver) -> None:
    """The pods serve the earlier generation, nothing counts as failed, and no rebuild leads forward by itself."""
    await _generations(world, operator, 3)
    _ask(world, "2@3")
    await operator.rounds(20)
    pointer = world.pointer()
    assert (pointer.generation, pointer.revision, pointer.reason) == (2, 4, "rollback")
    assert pointer.manifest_sha256 == f"{2:064x}"
    assert world.process.pointer == pointer
    assert (_rollback(world)["result"], _rollback(world)["request"]) == ("Done", "2@3")
    assert world.condition("IndexCurrent")["reason"] == "RolledBack"
    assert world.condition("RebuildSucceeded")["reason"] == "RolledBack"
    assert world.buffer()["status"]["phase"] == "Ready"
    assert world.buffer()["status"]["rebuild"]["failedAttempts"] == 0
    assert world.buffer()["status"]["rebuild"]["held"] is True
    assert world.job_generations == [1, 2, 3], "600 operations wait, and nobody has asked"


async def test_after_a_rollback_a_rebuild_by_hand_leads_forward(world: ModelCluster, operator: Driver) -> None:
    """The request for the rollback is still there, and void."""
    await _generations(world, operator, 2)
    _ask(world, "1@2")
    await operator.rounds(5)
    world.buffer()["metadata"]["annotations"][labels.REBUILD] = "forward"
    await operator.rounds(10)
    assert world.pointer().generation == 3
    assert world.condition("IndexCurrent")["reason"] == "Served"
    assert "held" not in world.buffer()["status"]["rebuild"]
    assert _rollback(world)["result"] == "Done", "what became of it is not rewritten"


async def test_after_a_rollback_a_delta_that_fills_up_leads_forward(world: ModelCluster, operator: Driver) -> None:
    """Otherwise writes would be refused one day, because of a rollback that was forgotten."""
    await _generations(world, operator, 2)
    _ask(world, "1@2")
    await operator.rounds(5)
    world.append(25_000)
    await operator.rounds(8)
    assert world.pointer().generation == 3


@pytest.mark.parametrize(
    ("request_text", "why"),
    [
        ("2", "GENERATION@REVISION; the revision is 3 now"),
        ("3@3", "only a rebuild leads forward"),
        ("9@3", "only a rebuild leads forward"),
        ("0@3", "is not kept; those that are: 2, 1"),
        ("2@2", "which has revision 3"),
    ],
)
async def test_a_rollback_that_cannot_be_is_refused_with_the_reason(
    world: ModelCluster, operator: Driver, request_text: str, why: str
) -> None:
    """In the status and as an Event; the pointer stays."""
    await _generations(world, operator, 3)
    _ask(world, request_text)
    await operator.rounds(4)
    assert (world.pointer().generation, world.pointer().revision) == (3, 3)
    assert _rollback(world)["result"] == "Refused"
    assert why in _rollback(world)["message"]
    events = [one["message"] for (kind, _), one in world.objects.items() if kind == EVENT]
    assert sum(why in message for message in events) == 1


async def test_only_generations_that_are_kept_can_be_gone_back_to(world: ModelCluster, operator: Driver) -> None:
    """Three are kept: of five, the first two are gone from the volume."""
    await _generations(world, operator, 5)
    _ask(world, "2@5")
    await operator.rounds(4)
    assert world.pointer().generation == 5
    assert "those that are: 4, 3" in _rollback(world)["message"]


async def test_a_crash_after_the_pointer_was_moved_back_is_caught_up_with(
    world: ModelCluster, operator: Driver
) -> None:
    """A new operator neither moves it twice nor forgets that it was meant."""
    await _generations(world, operator, 2)
    _ask(world, "1@2")
    world.crash_at_write = len(world.writes) + 1
    await operator.rounds(10)
    assert (world.pointer().generation, world.pointer().revision) == (1, 3)
    assert _rollback(world)["result"] == "Done"
    assert world.job_generations == [1, 2]


async def test_a_generation_that_the_pod_cannot_bear_is_taken_back(world: ModelCluster, operator: Driver) -> None:
    """It ends while it loads, so it cannot refuse; the conditions say so, and a later generation mends it."""
    await _generations(world, operator, 1)
    world.deadly_generations = {2}
    world.append(600)
    await operator.rounds(8)
    assert (world.pointer().generation, world.pointer().reason) == (1, "rollback")
    condition = world.condition("IndexCurrent")
    assert (condition["status"], condition["reason"]) == ("False", "CanaryFailed")
    assert "out of memory" in condition["message"]
    await operator.rounds(30)
    assert world.pointer().generation == 3
    assert world.condition("IndexCurrent")["status"] == "True"


async def test_a_pod_that_crashes_later_keeps_its_generation(world: ModelCluster, operator: Driver) -> None:
    """What was served once is not what kills it now."""
    await _generations(world, operator, 2)
    world.deadly_generations = {2}
    await operator.rounds(10)
    assert world.pointer().generation == 2


async def test_a_pod_that_follows_too_slowly_is_named(world: ModelCluster, operator: Driver) -> None:
    """PointerPropagated tells the usual way from one that takes too long."""
    await _generations(world, operator, 1)
    assert world.condition("PointerPropagated")["reason"] == "Propagated"
    world.pods_follow = False
    world.append(600)
    await operator.rounds(6)
    assert world.condition("PointerPropagated")["reason"] == "Propagating"
    await operator.rounds(40)
    condition = world.condition("PointerPropagated")
    assert (condition["status"], condition["reason"]) == ("False", "PropagationTimedOut")
    assert "demo-0 serves revision 1 (generation 1)" in condition["message"]
    world.pods_follow = True
    await operator.rounds(4)
    assert world.condition("PointerPropagated")["status"] == "True"


async def test_no_index_is_the_same_at_every_revision(world: ModelCluster, operator: Driver) -> None:
    """A pod refuses the way back to no index as it has none; rebuilds go on all the same."""
    world.bad_generations = {1}
    world.append(600)
    await operator.rounds(8)
    assert (world.pointer().generation, world.process.pointer.revision) == (0, 0)
    assert world.condition("PointerPropagated")["status"] == "True"
    await operator.rounds(20)
    assert world.pointer().generation == 2
    assert len(world.named(JOB)) == 2
