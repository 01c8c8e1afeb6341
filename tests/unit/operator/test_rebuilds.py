"""When rebuilds start, what follows a flip, and what happens to generations that nobody wants."""

from __future__ import annotations

from itertools import pairwise

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import BUFFER, CONFIG_MAP, JOB, POD

from buffer_service.contract.pointer import INITIAL, encode_pointer
from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster


async def test_no_rebuild_before_enough_operations_wait(world: ModelCluster, operator: Driver) -> None:
    """499 of 500 are not enough, 500 are."""
    world.append(499)
    await operator.rounds(10)
    assert world.job_generations == []
    world.append(1)
    await operator.rounds(4)
    assert world.job_generations == [1]


async def test_a_flip_is_served_and_reported(world: ModelCluster, operator: Driver) -> None:
    """The pod is poked with the new revision; the status has the generation and the time that the switch took."""
    world.append(600)
    await operator.rounds(12)
    assert world.objects[POD, "demo-0"]["metadata"]["annotations"][labels.POINTER_REVISION] == "1"
    index = world.buffer()["status"]["index"]
    assert (index["generation"], index["watermark"], index["revision"]) == (1, 600, 1)
    assert index["flipToServingSeconds"] == 3.0
    assert world.condition("IndexCurrent")["reason"] == "Served"
    assert world.condition("RebuildSucceeded")["reason"] == "Rebuilt"


async def test_one_rebuild_at_a_time(world: ModelCluster, operator: Driver) -> None:
    """While a Job is active no other is made, however much is written."""
    world.jobs_hold = True
    world.append(5000)
    await operator.rounds(20)
    assert world.named(JOB) == ["demo-rebuild-1"]
    assert world.condition("Progressing")["reason"] == "Rebuilding"
    assert world.buffer()["status"]["phase"] == "Rebuilding"


async def test_the_next_rebuild_waits_until_the_last_one_is_served(world: ModelCluster, operator: Driver) -> None:
    """Operations that the new generation holds still count as pending in a pod that has not switched."""
    world.pods_follow = False
    world.append(600)
    await operator.rounds(20)
    assert world.pointer().generation == 1
    assert world.job_generations == [1]
    assert world.condition("IndexCurrent")["reason"] == "Switching"


async def test_a_buffer_over_a_kept_volume_counts_on(world: ModelCluster, operator: Driver) -> None:
    """Generations of the former buffer are on the volume: their numbers are not used again."""
    world.append(600)
    await operator.rounds(12)
    world.delete(BUFFER, "demo")
    world.process.pointer, world.process.watermark = INITIAL, 0
    world.make_buffer()
    await operator.rounds(12)
    assert world.job_generations == [1, 2]
    assert world.condition("IndexCurrent")["reason"] == "Served"


async def test_a_pointer_that_was_set_back_by_hand_goes_forward_again(world: ModelCluster, operator: Driver) -> None:
    """Pods follow only forwards, so a lower revision would never be served."""
    world.append(600)
    await operator.rounds(12)
    world.objects[CONFIG_MAP, "demo-index"]["data"] = {"pointer.json": encode_pointer(INITIAL)}
    await operator.rounds(3)
    assert (world.pointer().generation, world.pointer().revision) == (1, 1)


async def test_failed_rebuilds_are_repeated_ever_more_slowly(world: ModelCluster, operator: Driver) -> None:
    """Each failure in a row doubles the pause; the condition carries the Job's reason."""
    world.jobs_fail = True
    world.append(600)
    started = []
    for _ in range(400):
        count = len(world.job_generations)
        await operator.rounds(1)
        if len(world.job_generations) > count:
            started.append(world.now)
    pauses = [later - earlier for earlier, later in pairwise(started)]
    assert len(pauses) >= 4
    assert pauses == sorted(pauses)
    assert pauses[2] > 3 * pauses[0] > 60
    assert world.condition("RebuildSucceeded")["reason"] == "RebuildFailed"
    assert "it broke" in world.condition("RebuildSucceeded")["message"]
    assert world.condition("IndexCurrent")["status"] == "True"


async def test_a_refused_generation_is_taken_back(world: ModelCluster, operator: Driver) -> None:
    """The pointer goes back to what the pod serves, the condition says why, and a later generation mends it."""
    world.append(600)
    await operator.rounds(12)
    world.bad_generations = {2}
    world.append(600)
    await operator.rounds(6)
    pointer = world.pointer()
    assert (pointer.generation, pointer.revision, pointer.reason) == (1, 3, "rollback")
    condition = world.condition("IndexCurrent")
    assert (condition["status"], condition["reason"]) == ("False", "GenerationRefused")
    assert "a canary was not found" in condition["message"]
    assert world.buffer()["status"]["phase"] == "Degraded"
    await operator.rounds(40)
    assert world.pointer().generation == 3
    assert world.condition("IndexCurrent")["status"] == "True"


async def test_the_first_generation_can_be_refused_too(world: ModelCluster, operator: Driver) -> None:
    """Then the pointer goes back to no generation at all."""
    world.bad_generations = {1}
    world.append(600)
    await operator.rounds(8)
    assert (world.pointer().generation, world.pointer().reason) == (0, "rollback")


async def test_a_refusal_is_remembered_over_a_restart_of_the_pod(world: ModelCluster, operator: Driver) -> None:
    """The process forgets what it refused, the condition does not."""
    world.append(600)
    await operator.rounds(12)
    world.bad_generations = {2, 3, 4}
    world.append(600)
    await operator.rounds(6)
    world.process.refused = None
    await operator.rounds(1)
    assert world.condition("IndexCurrent")["reason"] == "GenerationRefused"


async def test_an_export_that_fails_is_a_condition_and_makes_no_job(world: ModelCluster, operator: Driver) -> None:
    """It is tried again, and the condition clears with the first rebuild that succeeds."""
    world.exports_fail = True
    world.append(600)
    await operator.rounds(6)
    assert world.named(JOB) == []
    assert world.condition("RebuildSucceeded")["reason"] == "ExportFailed"
    assert "the disk is full" in world.condition("RebuildSucceeded")["message"]
    world.exports_fail = False
    await operator.rounds(12)
    assert world.condition("RebuildSucceeded")["reason"] == "Rebuilt"


async def test_nothing_live_means_no_job(world: ModelCluster, operator: Driver) -> None:
    """When all was removed there is nothing to build from."""
    world.append(600)
    world.process.size = 0
    await operator.rounds(6)
    assert world.named(JOB) == []
    assert world.condition("RebuildSucceeded")["reason"] == "ExportFailed"


async def test_a_deleted_pointer_comes_back_from_the_status(world: ModelCluster, operator: Driver) -> None:
    """Generation, watermark and digest are those that were there, the revision does not fall."""
    world.append(600)
    await operator.rounds(12)
    before = world.pointer()
    world.delete(CONFIG_MAP, "demo-index")
    await operator.rounds(3)
    after = world.pointer()
    assert (after.generation, after.watermark, after.manifest_sha256) == (1, 600, before.manifest_sha256)
    assert after.revision >= before.revision


async def test_a_broken_pointer_is_replaced(world: ModelCluster, operator: Driver) -> None:
    """What was written into it by hand is no pointer: the remembered one comes back."""
    world.append(600)
    await operator.rounds(12)
    world.objects[CONFIG_MAP, "demo-index"]["data"] = {"pointer.json": "generation 7, please"}
    await operator.rounds(3)
    assert world.pointer().generation == 1
    assert world.condition("IndexCurrent")["status"] == "True"


async def test_numbers_of_failed_generations_are_not_used_again(world: ModelCluster, operator: Driver) -> None:
    """Also when their Jobs have been removed meanwhile."""
    world.jobs_fail = True
    world.append(600)
    await operator.rounds(5)
    assert world.job_generations == [1]
    world.delete(JOB, "demo-rebuild-1")
    world.jobs_fail = False
    await operator.rounds(30)
    assert world.job_generations == [1, 2]
