"""Volumes that grow before they are full, and what is said of one that is."""

from __future__ import annotations

import pytest
from buffer_operator.kube import labels
from buffer_operator.kube.kinds import STATEFUL_SET, Json

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster

GIBIBYTE = 1 << 30


def _requested(world: ModelCluster) -> str:
    size: str = world.claim()["spec"]["resources"]["requests"]["storage"]
    return size


def _template(world: ModelCluster) -> str:
    (template,) = world.objects[STATEFUL_SET, "demo"]["spec"]["volumeClaimTemplates"]
    size: str = template["spec"]["resources"]["requests"]["storage"]
    return size


def _automatic(size: str = "10Gi", **growth: object) -> Json:
    return {"size": size, "autoGrowth": {"maximum": "100Gi"} | growth}


async def test_a_volume_grows_before_it_is_full(world: ModelCluster, operator: Driver) -> None:
    """By one step, not before the threshold."""
    world.change_spec(persistence=_automatic())
    world.process.used_bytes = 8 * GIBIBYTE - 1
    await operator.rounds(6)
    assert _requested(world) == "10Gi"
    world.process.used_bytes = 8 * GIBIBYTE
    await operator.rounds(10)
    assert (_requested(world), _template(world)) == ("12288Mi", "12288Mi")
    assert world.claim()["metadata"]["annotations"][labels.GROWN_AT].isdecimal()


@pytest.mark.parametrize(("step", "expected"), [("20%", "12288Mi"), ("3Gi", "13312Mi"), ("500%", "15Gi")])
async def test_steps_are_shares_or_sizes_and_end_at_the_maximum(
    world: ModelCluster, operator: Driver, step: str, expected: str
) -> None:
    """Whatever the step, the maximum is not exceeded."""
    world.change_spec(persistence=_automatic(step=step, maximum="15Gi"))
    world.process.used_bytes = 9 * GIBIBYTE
    await operator.rounds(8)
    assert _requested(world) == expected


async def test_growth_waits_for_its_cool_down_and_for_the_last_resize(world: ModelCluster, operator: Driver) -> None:
    """Some providers change a volume only once in hours."""
    world.change_spec(persistence=_automatic(coolDownSeconds=3600))
    world.process.used_bytes = 100 * GIBIBYTE
    await operator.rounds(20, seconds=60)
    assert _requested(world) == "12288Mi"
    await operator.rounds(45, seconds=60)
    assert _requested(world) == "14746Mi"
    world.resize = "never"
    await operator.rounds(70, seconds=60)
    await operator.rounds(70, seconds=60)
    assert _requested(world) == "17696Mi"


async def test_a_maximum_that_is_reached_is_a_condition(world: ModelCluster, operator: Driver) -> None:
    """It names the field to raise."""
    world.change_spec(persistence=_automatic(maximum="10Gi"))
    world.process.used_bytes = 9 * GIBIBYTE
    await operator.rounds(6)
    condition = world.condition("StorageHealthy")
    assert (condition["status"], condition["reason"]) == ("False", "MaximumReached")
    assert "persistence.autoGrowth.maximum" in condition["message"]


async def test_the_last_resize_is_no_problem_yet(world: ModelCluster, operator: Driver) -> None:
    """The maximum is asked for and on its way: whether that is enough shows when it is there."""
    world.change_spec(persistence=_automatic(maximum="12Gi"))
    await operator.rounds(5)
    world.resize, world.process.used_bytes = "never", 9 * GIBIBYTE
    await operator.rounds(4)
    assert (_requested(world), world.condition("StorageHealthy")["reason"]) == ("12Gi", "Resizing")
    world.process.used_bytes = 10 * GIBIBYTE
    await operator.rounds(2)
    assert world.condition("StorageHealthy")["reason"] == "VolumeFull"
    assert world.condition("StorageHealthy")["message"].endswith("It is being resized to 12Gi.")


async def test_a_full_volume_grows_although_nothing_can_be_written(world: ModelCluster, operator: Driver) -> None:
    """The export that a rebuild needs fails; growing does not wait for it."""
    world.change_spec(persistence=_automatic())
    await operator.rounds(5)
    world.append(600)
    world.exports_fail, world.process.used_bytes = True, 10 * GIBIBYTE
    await operator.rounds(6)
    assert _requested(world) == "12288Mi"
    assert world.condition("Available")["status"] == "True"


async def test_a_pod_that_dies_of_a_full_volume_cannot_say_so_and_need_not(
    world: ModelCluster, operator: Driver
) -> None:
    """Its last words are enough to let the volume grow."""
    world.change_spec(persistence=_automatic())
    await operator.rounds(5)
    world.dies_when_full, world.last_words = True, "OSError: [Errno 28] No space left on device"
    world.process.used_bytes = 10 * GIBIBYTE
    await operator.rounds(6)
    assert _requested(world) == "12288Mi"
    await operator.rounds(3)
    assert world.condition("Ready")["status"] == "True"


async def test_a_full_volume_without_growth_is_a_condition(world: ModelCluster, operator: Driver) -> None:
    """First almost, then full; both say what to do."""
    world.process.used_bytes = int(9.5 * GIBIBYTE)
    await operator.rounds(5)
    assert world.condition("StorageHealthy")["reason"] == "VolumeAlmostFull"
    world.process.used_bytes = 10 * GIBIBYTE
    await operator.rounds(2)
    assert world.condition("StorageHealthy")["reason"] == "VolumeFull"
    assert "persistence.size" in world.condition("StorageHealthy")["message"]


async def test_small_changes_of_what_is_used_are_not_written(world: ModelCluster, operator: Driver) -> None:
    """A busy file system must not make a status write out of each look."""
    world.process.used_bytes = GIBIBYTE
    await operator.rounds(5)
    before = len(world.writes)
    world.process.used_bytes += GIBIBYTE // 20
    await operator.rounds(2)
    assert world.writes[before:] == []
    world.process.used_bytes += GIBIBYTE
    await operator.rounds(2)
    assert world.buffer()["status"]["volumes"][0]["usedBytes"] == world.process.used_bytes
