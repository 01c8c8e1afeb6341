"""``status.index``: what is known of the generation in use and of the one before."""

from __future__ import annotations

from buffer_operator.kube.kinds import POD
from buffer_operator.resource.conditions import timestamp

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_api import START
from tests.unit.operator.model_cluster import ModelCluster


async def _generation(world: ModelCluster, operator: Driver, number: int) -> None:
    world.append(600)
    for _ in range(20):
        await operator.rounds(1)
        index = world.buffer()["status"].get("index", {})
        if index.get("generation") == number and "servedAt" in index:
            return
    raise AssertionError(f"generation {number} is not served")


async def test_the_generation_in_use_is_described_and_the_one_before_remembered(
    world: ModelCluster, operator: Driver
) -> None:
    """Watermark, rows, recall, backend and times of both; the seconds of the switch of the one in use."""
    await operator.rounds(4)
    assert "previous" not in world.buffer()["status"]["index"]
    await _generation(world, operator, 1)
    first = world.buffer()["status"]["index"]
    assert (first["watermark"], first["count"], first["recall"], first["backend"]) == (600, 600, "0.9876", "cpu")
    assert first["builtAt"] == timestamp(START + 1)
    assert "previous" not in first
    await _generation(world, operator, 2)
    second = world.buffer()["status"]["index"]
    assert (second["generation"], second["watermark"], second["builtAt"]) == (2, 1200, timestamp(START + 2))
    assert second["flipToServingSeconds"] >= 0
    names = ("generation", "watermark", "count", "recall", "backend", "builtAt", "flippedAt")
    assert second["previous"] == {name: first[name] for name in names}


async def test_what_was_told_stays_while_no_pod_answers(world: ModelCluster, operator: Driver) -> None:
    """A restart forgets nothing, and measures no switch."""
    await _generation(world, operator, 1)
    before = world.buffer()["status"]["index"]
    world.delete(POD, "demo-0")
    await operator.visit()
    assert world.buffer()["status"]["index"] == before
    await operator.rounds(4)
    assert world.buffer()["status"]["index"] == before


async def test_after_a_rollback_the_one_before_is_the_one_that_was_left(world: ModelCluster, operator: Driver) -> None:
    """So that going back once more is going forward again."""
    await _generation(world, operator, 1)
    world.bad_generations = {2}
    world.append(600)
    await operator.rounds(12)
    index = world.buffer()["status"]["index"]
    assert (index["generation"], index["previous"]["generation"]) == (1, 2)
    assert index["recall"] == "0.9876"
