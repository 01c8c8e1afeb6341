"""Properties of growing, suspending and pausing, found by random histories against a model cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import CLAIM, POD, STATEFUL_SET, Json
from buffer_operator.planning.volumes import size_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.operator.driver import IMAGE, Driver
from tests.unit.operator.model_cluster import ModelCluster

GIBIBYTE = 1 << 30
CLAIM_NAME = "data-demo-0"


def _persistence(world: ModelCluster) -> Json:
    found: Json = world.buffer()["spec"].get("persistence", {"size": "10Gi"})
    return dict(found)


def _ask_for_more(world: ModelCluster) -> None:
    persistence = _persistence(world)
    size = int(persistence["size"].removesuffix("Gi")) + 5
    world.change_spec(persistence=persistence | {"size": f"{size}Gi"})


def _let_it_grow(world: ModelCluster) -> None:
    growth = {"maximum": "500Gi", "coolDownSeconds": 10}
    world.change_spec(persistence=_persistence(world) | {"autoGrowth": growth})


def _goes_with_its_buffer(world: ModelCluster) -> None:
    world.change_spec(persistence=_persistence(world) | {"whenDeleted": "Delete"})


def _fill(world: ModelCluster) -> None:
    if (CLAIM, CLAIM_NAME) in world.objects:
        world.process.used_bytes = int(size_of(world.claim()["status"]["capacity"]["storage"]))


def _pause(words: str | None) -> Callable[[ModelCluster], None]:
    def change(world: ModelCluster) -> None:
        annotations = world.buffer()["metadata"].setdefault("annotations", {})
        annotations.pop(labels.PAUSED, None)
        annotations |= {} if words is None else {labels.PAUSED: words}
        world.touch(world.buffer())

    return change


def _orphan_by_hand(world: ModelCluster) -> None:
    found = world.objects.get((STATEFUL_SET, "demo"))
    if found:
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


def _set(**fields: object) -> Callable[[ModelCluster], None]:
    def change(world: ModelCluster) -> None:
        for name, value in fields.items():
            setattr(world, name, value)

    return change


def _crash(after: int, *, before: bool) -> Callable[[ModelCluster], None]:
    return lambda world: _set(crash_at_write=len(world.writes) + after, crash_before=before)(world)


EVENTS: dict[str, Callable[[ModelCluster], None]] = {
    "nothing": lambda _: None,
    "append 600": lambda world: world.append(600),
    "more is asked for": _ask_for_more,
    "it may grow": _let_it_grow,
    "it goes with its buffer": _goes_with_its_buffer,
    "it fills": _fill,
    "claims cannot grow": _set(expandable=False),
    "claims can grow": _set(expandable=True),
    "resizes need a start": _set(resize="at start"),
    "resizes hang": _set(resize="never"),
    "suspended": lambda world: world.change_spec(suspend=True),
    "resumed": lambda world: world.change_spec(suspend=False),
    "paused": _pause("a test"),
    "no longer paused": _pause(None),
    "the image breaks": lambda world: world.change_spec(image="broken"),
    "the image is good": lambda world: world.change_spec(image=IMAGE),
    "rollouts get stuck": _set(rollouts_get_stuck=True),
    "evictions are refused": _set(budget_blocks=True),
    "pod deleted": lambda world: world.delete(POD, "demo-0"),
    "StatefulSet deleted": lambda world: world.delete(STATEFUL_SET, "demo"),
    "StatefulSet orphaned": _orphan_by_hand,
    "crash after write 1": _crash(1, before=False),
    "crash after write 2": _crash(2, before=False),
    "crash before write 3": _crash(3, before=True),
}
WHILE_MADE_ANEW = [("more is asked for", 2), ("StatefulSet deleted", 0)]
"""Its pod is the buffer's as well at that moment: it stays, and is freed of the owner that has gone."""
HISTORIES = st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.integers(0, 5)), max_size=14)


async def _live_through(history: list[tuple[str, int]]) -> tuple[ModelCluster, Driver]:
    world = ModelCluster(bad_images={"broken"})
    world.make_buffer()
    operator = Driver(world)
    await operator.rounds(4)
    volume = world.claim()["metadata"]["uid"]
    for event, rounds in history:
        EVENTS[event](world)
        await operator.rounds(rounds)
        assert world.claim()["metadata"]["uid"] == volume, "the volume stays, whatever happens"
    _set(expandable=True, resize="online", budget_blocks=False, crash_at_write=None)(world)
    for event in ("no longer paused", "resumed", "the image is good"):
        EVENTS[event](world)
    await operator.rounds(30, seconds=60)
    assert world.claim()["metadata"]["uid"] == volume
    return world, operator


@settings(max_examples=150, deadline=None)
@given(HISTORIES)
@example(WHILE_MADE_ANEW)
def test_every_history_ends_with_a_volume_of_the_right_size_and_no_writes(history: list[tuple[str, int]]) -> None:
    """Ready over the same volume, which has what the spec asks; claim and template agree; the pod has one owner."""

    async def check() -> None:
        world, operator = await _live_through(history)
        assert world.condition("Ready")["status"] == "True", world.condition("Ready")
        assert world.condition("Progressing")["reason"] == "Settled"
        claim, stateful_set = world.claim(), world.objects[STATEFUL_SET, "demo"]
        has = size_of(claim["status"]["capacity"]["storage"])
        assert has >= size_of(_persistence(world)["size"])
        (template,) = stateful_set["spec"]["volumeClaimTemplates"]
        assert size_of(template["spec"]["resources"]["requests"]["storage"]) == has
        owners = world.objects[POD, "demo-0"]["metadata"]["ownerReferences"]
        assert [owner["uid"] for owner in owners] == [stateful_set["metadata"]["uid"]]
        owned = [owner["uid"] for owner in claim["metadata"].get("ownerReferences", [])]
        with_its_buffer = _persistence(world).get("whenDeleted") == "Delete"
        assert owned == ([world.buffer()["metadata"]["uid"]] if with_its_buffer else [])
        assert "pendingRestarts" not in world.buffer()["status"]
        before = len(world.writes)
        for _ in range(3):
            await operator.visit()
        assert world.writes[before:] == []

    asyncio.run(check())


@settings(max_examples=60, deadline=None)
@given(HISTORIES)
def test_nothing_but_the_status_is_written_while_it_is_paused(history: list[tuple[str, int]]) -> None:
    """Whatever happens meanwhile."""

    async def check() -> None:
        world = ModelCluster(bad_images={"broken"})
        world.make_buffer()
        operator = Driver(world)
        await operator.rounds(5)
        EVENTS["paused"](world)
        before = len(world.writes)
        for event, rounds in history:
            if event not in ("paused", "no longer paused"):
                EVENTS[event](world)
                await operator.rounds(rounds)
        assert set(world.writes[before:]) <= {"status", "create Event", "patch Event"}

    asyncio.run(check())
