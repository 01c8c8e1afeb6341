"""Properties of looking at what the watches have seen: it is enough to notice, and never enough to act."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.test_plan import EVENTS, HISTORIES
from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster

_AT_REST_ROUNDS = 30


def _calm(world: ModelCluster) -> None:
    world.jobs_fail = world.exports_fail = False
    world.crash_at_write = None


async def _rounds(operator: Driver, count: int, seconds: float, *, late: bool) -> None:
    """Visit ``count`` times; where the watches are late, they have seen only what was before the first of them."""
    await operator.catch_up()
    for _ in range(count):
        if not late:
            await operator.catch_up()
        await operator.rounds(1, seconds)


@settings(max_examples=30, deadline=None)
@given(HISTORIES)
def test_what_a_look_at_the_api_server_would_find_a_glance_finds_too(history: list[tuple[str, int]]) -> None:
    """Where the watches have caught up and a glance found nothing to do, there is nothing to do."""

    async def check() -> None:
        world = ModelCluster()
        world.make_buffer()
        operator = Driver(world, watches=True)
        for event, rounds in history:
            EVENTS[event](world)
            await _rounds(operator, rounds, 3.0, late=False)
        _calm(world)
        await _rounds(operator, _AT_REST_ROUNDS, 60.0, late=False)
        before = len(world.writes)
        without = Driver(world)
        await without.visit()
        assert world.writes[before:] == []
        assert world.condition("Ready")["status"] == "True"

    asyncio.run(check())


@settings(max_examples=30, deadline=None)
@given(HISTORIES, st.integers(0, 12))
def test_watches_that_are_late_cost_looks_and_never_a_write(history: list[tuple[str, int]], seen: int) -> None:
    """At rest, with watches that have seen nothing since some earlier moment: whatever they say, nothing is written."""

    async def check() -> None:
        world = ModelCluster()
        world.make_buffer()
        operator, late = Driver(world), Driver(world, watches=True)
        for number, (event, rounds) in enumerate(history):
            if number == seen:
                await late.catch_up()
            EVENTS[event](world)
            await operator.rounds(rounds)
        _calm(world)
        await operator.rounds(_AT_REST_ROUNDS, seconds=60)
        before = len(world.writes)
        for _ in range(4):
            await late.visit()
        assert world.writes[before:] == []

    asyncio.run(check())
