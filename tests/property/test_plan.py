"""Properties of reconciling, found by random histories against a model cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import CONFIG_MAP, JOB, POD, ROLE, SECRET, SERVICE, STATEFUL_SET
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buffer_service.contract import names
from buffer_service.contract.pointer import INITIAL, encode_pointer
from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster


def _delete(kind: object, name: str) -> Callable[[ModelCluster], None]:
    return lambda world: world.delete(kind, name)  # type: ignore[arg-type]


def _break_pointer(world: ModelCluster) -> None:
    if (CONFIG_MAP, "demo-index") in world.objects:
        world.objects[CONFIG_MAP, "demo-index"]["data"][names.POINTER_KEY] = "no pointer"


def _set_pointer_back(world: ModelCluster) -> None:
    if (CONFIG_MAP, "demo-index") in world.objects:
        world.objects[CONFIG_MAP, "demo-index"]["data"][names.POINTER_KEY] = encode_pointer(INITIAL)


def _next_generation_is_bad(world: ModelCluster) -> None:
    world.bad_generations.add(max([0, *world.job_generations]) + 1)


def _next_generation_is_deadly(world: ModelCluster) -> None:
    world.deadly_generations.add(max([0, *world.job_generations]) + 1)


def _ask_for_rebuild(world: ModelCluster) -> None:
    world.annotate(labels.REBUILD, f"asked at {world.now}")


def _ask_for_rollback(world: ModelCluster) -> None:
    """To the generation before, as far as that can be told now."""
    index = world.buffer().get("status", {}).get("index", {})
    world.annotate(labels.ROLLBACK_TO, f"{index.get('previous', {}).get('generation', 0)}@{index.get('revision', 0)}")


def _index_gets_worse(world: ModelCluster) -> None:
    world.process.recall, world.process.tombstones = 0.5, world.process.watermark // 2


def _set(**fields: object) -> Callable[[ModelCluster], None]:
    def change(world: ModelCluster) -> None:
        for name, value in fields.items():
            setattr(world, name, value)

    return change


def _crash(after: int, *, before: bool) -> Callable[[ModelCluster], None]:
    return lambda world: _set(crash_at_write=len(world.writes) + after, crash_before=before)(world)


MORE_TRIGGERS = {
    "everyOperations": 500,
    "deltaRows": 300,
    "tombstoneShare": "0.25",
    "recallBelow": "0.9",
    "schedule": "*/10 * * * *",
}
EVENTS: dict[str, Callable[[ModelCluster], None]] = {
    "nothing": lambda _: None,
    "append 200": lambda world: world.append(200),
    "append 900": lambda world: world.append(900),
    "pod deleted": _delete(POD, "demo-0"),
    "StatefulSet deleted": _delete(STATEFUL_SET, "demo"),
    "Service deleted": _delete(SERVICE, "demo"),
    "Role deleted": _delete(ROLE, "demo-rebuild"),
    "Secret deleted": _delete(SECRET, "demo-token"),
    "pointer deleted": _delete(CONFIG_MAP, "demo-index"),
    "pointer broken": _break_pointer,
    "pointer set back": _set_pointer_back,
    "jobs fail": _set(jobs_fail=True),
    "jobs work": _set(jobs_fail=False),
    "exports fail": _set(exports_fail=True),
    "exports work": _set(exports_fail=False),
    "next generation is bad": _next_generation_is_bad,
    "next generation is deadly": _next_generation_is_deadly,
    "rebuild asked for": _ask_for_rebuild,
    "rollback asked for": _ask_for_rollback,
    "index gets worse": _index_gets_worse,
    "more triggers": lambda world: world.change_spec(rebuild=MORE_TRIGGERS),
    "capacity raised": lambda world: world.change_spec(capacity=world.buffer()["spec"].get("capacity", 1) + 1),
    "crash after write 1": _crash(1, before=False),
    "crash after write 3": _crash(3, before=False),
    "crash before write 2": _crash(2, before=True),
}
LEFT_TO_A_PERSON = {"rollback asked for", "rebuild asked for", "more triggers"}
"""After these a generation that was left or refused need not have enough operations behind it to be built anew."""
HISTORIES = st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.integers(0, 4)), max_size=12)


async def _live_through(history: list[tuple[str, int]]) -> tuple[ModelCluster, Driver]:
    world = ModelCluster()
    world.make_buffer()
    operator = Driver(world)
    for event, rounds in history:
        EVENTS[event](world)
        await operator.rounds(rounds)
        active = [name for name in world.named(JOB) if not world.objects[JOB, name].get("status")]
        assert len(active) <= 1, "one rebuild at a time"
    _set(jobs_fail=False, exports_fail=False, crash_at_write=None)(world)
    if LEFT_TO_A_PERSON & {event for event, _ in history}:
        for _ in range(3):  # what is built may be bad, or deadly, and is not repeated by itself
            await operator.rounds(10, seconds=60)
            _ask_for_rebuild(world)
    await operator.rounds(30, seconds=60)
    return world, operator


AFTER_A_REFUSAL = [
    ("append 900", 0),
    ("next generation is bad", 2),
    *[("Role deleted", 4)] * 3,
    ("pointer broken", 0),
]
"""The pointer breaks when the generation after a refused one has just been served."""


@settings(max_examples=100, deadline=None)
@example(AFTER_A_REFUSAL)
@given(HISTORIES)
def test_every_history_converges_and_then_nothing_is_written(history: list[tuple[str, int]]) -> None:
    """Whatever happened: ready, current, rebuilt; and visits of a buffer at rest write nothing."""

    async def check() -> None:
        world, operator = await _live_through(history)
        assert world.condition("Ready")["status"] == "True"
        assert world.condition("Progressing")["reason"] == "Settled"
        served, wanted = world.process.pointer, world.pointer()
        assert served.generation == wanted.generation
        assert served.revision == wanted.revision or wanted.generation == 0, "no index is the same at every revision"
        assert world.process.sequence - world.process.watermark < 500
        assert world.condition("IndexCurrent")["status"] == "True", world.condition("IndexCurrent")
        assert len(world.job_generations) == len(set(world.job_generations)), (
            "a generation's number is never used again"
        )
        before = len(world.writes)
        for _ in range(3):
            await operator.visit()
        assert world.writes[before:] == []

    asyncio.run(check())


def test_a_pointer_that_was_broken_while_its_generation_killed_the_pod_is_left_again() -> None:
    """It comes back as it was, to the same generation: that one has still never been served."""

    async def check() -> None:
        history = [("next generation is deadly", 1), ("append 900", 4), ("pointer broken", 0)]
        world, _ = await _live_through(history)
        assert world.condition("Ready")["status"] == "True"
        assert world.pointer().generation > 1

    asyncio.run(check())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.booleans())
def test_a_crash_at_any_write_is_caught_up_with(write: int, before: bool) -> None:  # noqa: FBT001
    """The way from nothing to the first generation, cut off at each write in turn, ends in the same place."""

    async def check() -> None:
        world = ModelCluster(crash_at_write=write, crash_before=before)
        world.make_buffer()
        world.append(600)
        operator = Driver(world)
        await operator.rounds(40)
        assert world.condition("IndexCurrent")["reason"] == "Served"
        assert world.buffer()["status"]["index"]["generation"] == world.process.pointer.generation >= 1
        assert world.process.watermark == 600

    asyncio.run(check())
