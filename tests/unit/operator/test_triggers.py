"""What starts a rebuild: bounds, the schedule, somebody who asks; and that each is told with the rebuild."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from buffer_operator.kube import labels
from buffer_operator.kube.kinds import EVENT, JOB, Json
from buffer_operator.planning.triggers import RECALL_PAUSE_S
from buffer_operator.resource.conditions import timestamp

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster

NIGHTLY = "0 3 * * *"


def _rebuild(world: ModelCluster) -> Json:
    found: Json = world.buffer()["status"]["rebuild"]
    return found


async def _served(world: ModelCluster, operator: Driver, **rebuild: object) -> None:
    """Bring the buffer to its first generation, then set what starts further rebuilds."""
    world.append(600)
    await operator.rounds(8)
    assert world.process.watermark == 600
    world.change_spec(rebuild={"everyOperations": 5000, "minIntervalSeconds": 0, **rebuild})
    await operator.rounds(2)


def _ask(world: ModelCluster, token: str) -> None:
    world.annotate(labels.REBUILD, token)


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


async def test_the_trigger_is_told_by_job_status_and_event(world: ModelCluster, operator: Driver) -> None:
    """In the same words."""
    world.append(600)
    await operator.rounds(8)
    annotations = world.objects[JOB, "demo-rebuild-1"]["metadata"]["annotations"]
    assert annotations[labels.TRIGGER] == _rebuild(world)["trigger"] == "Operations"
    why = "600 operations since the watermark, the bound is 500"
    assert annotations[labels.TRIGGER_MESSAGE] == _rebuild(world)["message"] == why
    started = [
        item for (kind, _), item in world.objects.items() if kind == EVENT and item["reason"] == "RebuildStarted"
    ]
    assert [event["message"] for event in started] == [f"Job demo-rebuild-1 was started: {why}."]


async def test_the_trigger_outlives_its_job(world: ModelCluster, operator: Driver) -> None:
    """The status still names it when the Job has been removed."""
    world.append(600)
    await operator.rounds(8)
    world.delete(JOB, "demo-rebuild-1")
    await operator.rounds(2)
    assert _rebuild(world)["trigger"] == "Operations"


async def test_delta_rows_start_a_rebuild(world: ModelCluster, operator: Driver) -> None:
    """99 of 100 are not enough, 100 are."""
    await _served(world, operator, deltaRows=100)
    world.append(99)
    await operator.rounds(3)
    assert world.job_generations == [1]
    world.append(1)
    await operator.rounds(6)
    assert world.job_generations == [1, 2]
    assert _rebuild(world)["trigger"] == "Delta"


async def test_tombstones_start_a_rebuild_by_their_share(world: ModelCluster, operator: Driver) -> None:
    """A tenth of 600 rows is 60."""
    await _served(world, operator, tombstoneShare="0.1")
    world.process.tombstones = 59
    world.process.sequence += 59
    await operator.rounds(3)
    assert world.job_generations == [1]
    world.process.tombstones = 60
    await operator.rounds(6)
    assert world.job_generations == [1, 2]
    assert _rebuild(world)["trigger"] == "Tombstones"
    assert "60 of 600 rows have left" in _rebuild(world)["message"]


async def test_low_recall_starts_a_rebuild_and_not_one_after_the_other(world: ModelCluster, operator: Driver) -> None:
    """A rebuild that does not help is not repeated at once, and nothing changed means nothing can be gained."""
    await _served(world, operator, recallBelow="0.9")
    world.process.recall = 0.85
    await operator.rounds(3)
    assert world.job_generations == [1], "nothing has changed since generation 1"
    world.append(1)
    await operator.rounds(6)
    assert world.job_generations == [1, 2]
    assert _rebuild(world)["trigger"] == "Recall"
    world.process.recall = 0.85
    world.append(1)
    await operator.rounds(10)
    assert world.job_generations == [1, 2]
    world.now += RECALL_PAUSE_S
    await operator.rounds(6)
    assert world.job_generations == [1, 2, 3]


async def test_recall_at_its_bound_is_good_enough(world: ModelCluster, operator: Driver) -> None:
    """Below means below."""
    await _served(world, operator, recallBelow="0.9")
    world.process.recall = 0.9
    world.append(1)
    await operator.rounds(4)
    assert world.job_generations == [1]


async def test_a_request_by_hand_is_met_once(world: ModelCluster, operator: Driver) -> None:
    """Also where nothing has changed, and in spite of the pause between rebuilds; a new value asks again."""
    await _served(world, operator, minIntervalSeconds=86_400)
    _ask(world, "first")
    await operator.rounds(8)
    assert world.job_generations == [1, 2]
    assert (_rebuild(world)["trigger"], _rebuild(world)["request"]) == ("Manual", "first")
    world.delete(JOB, "demo-rebuild-2")
    await operator.rounds(8)
    assert world.job_generations == [1, 2], "the status remembers what the Job told"
    _ask(world, "second")
    await operator.rounds(8)
    assert world.job_generations == [1, 2, 3]


async def test_a_request_by_hand_does_not_wait_for_the_pause_after_failures(
    world: ModelCluster, operator: Driver
) -> None:
    """Whoever asks has perhaps mended the cause."""
    world.jobs_fail = True
    world.append(600)
    await operator.rounds(5)
    assert world.job_generations == [1]
    _ask(world, "now")
    await operator.rounds(2)
    assert world.job_generations == [1, 2]


async def test_a_request_by_hand_waits_for_the_job_that_runs(world: ModelCluster, operator: Driver) -> None:
    """One rebuild at a time, whoever asks."""
    world.jobs_hold = True
    world.append(600)
    await operator.rounds(4)
    _ask(world, "now")
    await operator.rounds(4)
    assert world.job_generations == [1]
    world.jobs_hold = False
    await operator.rounds(8)
    assert world.job_generations == [1, 2]


async def test_a_new_schedule_begins_when_it_is_written(world: ModelCluster, operator: Driver) -> None:
    """Points before that are not made up for."""
    world.now = _at("2026-11-21T12:00:00")
    await _served(world, operator, schedule=NIGHTLY)
    world.append(1)
    await operator.rounds(5)
    assert world.job_generations == [1]
    assert world.buffer()["status"]["nextRebuild"] == {"at": "2026-11-22T03:00:00Z", "reason": "Schedule"}


async def test_a_schedule_starts_a_rebuild_once_for_each_point(world: ModelCluster, operator: Driver) -> None:
    """And names the point."""
    world.now = _at("2026-11-21T12:00:00")
    await _served(world, operator, schedule=NIGHTLY)
    world.append(1)
    world.now = _at("2026-11-22T02:59:50")
    await operator.rounds(2)
    assert world.job_generations == [1]
    await operator.rounds(20)
    assert world.job_generations == [1, 2]
    assert _rebuild(world)["message"] == "it was due at 2026-11-22T03:00:00Z by the schedule"
    assert _rebuild(world)["lastScheduleTime"] == "2026-11-22T03:00:00Z"


async def test_missed_points_collapse_into_one(world: ModelCluster, operator: Driver) -> None:
    """Three days without an operator are one rebuild."""
    world.now = _at("2026-11-21T12:00:00")
    await _served(world, operator, schedule=NIGHTLY)
    world.append(1)
    world.now = _at("2026-11-24T17:00:00")
    operator.restart()
    await operator.rounds(30)
    assert world.job_generations == [1, 2]


async def test_a_point_at_which_nothing_had_changed_is_passed_over(world: ModelCluster, operator: Driver) -> None:
    """The first experience after it does not start the night's rebuild at noon."""
    world.now = _at("2026-11-21T12:00:00")
    await _served(world, operator, schedule=NIGHTLY)
    world.now = _at("2026-11-22T03:00:01")
    await operator.rounds(3)
    world.append(1)
    await operator.rounds(5)
    assert world.job_generations == [1]


async def test_a_rebuild_of_the_schedule_that_fails_is_repeated(world: ModelCluster, operator: Driver) -> None:
    """After the pause that every failure brings."""
    world.now = _at("2026-11-21T12:00:00")
    await _served(world, operator, schedule=NIGHTLY)
    world.append(1)
    world.jobs_fail = True
    world.now = _at("2026-11-22T03:00:01")
    await operator.rounds(4)
    assert world.job_generations == [1, 2]
    coming = world.buffer()["status"]["nextRebuild"]
    assert (coming["reason"], coming["at"] > timestamp(world.now)) == ("Schedule", True)
    world.jobs_fail = False
    await operator.rounds(20)
    assert world.job_generations == [1, 2, 3]
    assert _rebuild(world)["lastScheduleTime"] == "2026-11-22T03:00:00Z"


@pytest.mark.parametrize("schedule", ["61 3 * * *", "0 0 30 2 *"])
async def test_a_schedule_that_never_comes_due_is_an_invalid_spec(
    world: ModelCluster, operator: Driver, schedule: str
) -> None:
    """The CRD's pattern cannot tell."""
    world.change_spec(rebuild={"schedule": schedule})
    await operator.rounds(2)
    assert world.condition("Ready")["reason"] == "InvalidSpec"
    assert schedule in world.condition("Ready")["message"]
