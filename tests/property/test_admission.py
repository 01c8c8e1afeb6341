"""The limit of rebuilds over all buffers: never exceeded, always used, and whoever has waited longest is next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count

from buffer_operator.admission import Admission, Snapshot, its_turn
from buffer_operator.kube import labels
from buffer_operator.kube.kinds import JOB
from buffer_operator.kube.labels import Component
from buffer_operator.queue import Key
from buffer_operator.resource.conditions import timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.operator.model_api import NAMESPACE, START, ModelApi

BUFFERS = 6


@dataclass
class Fleet(ModelApi):
    """Buffers that all want to rebuild; visits write what a reconciler would."""

    limit: int = 2
    numbers: Iterator[int] = field(default_factory=count)
    waits: dict[str, int] = field(default_factory=dict)
    """When each began to wait, as a number that rises."""
    started: list[str] = field(default_factory=list)

    def populate(self) -> None:
        """Make the buffers."""
        for number in range(BUFFERS):
            self.make_buffer(f"b{number}")
            self.buffer(f"b{number}")["status"] = {"rebuild": {}}

    def operator(self) -> Admission:
        """Return a new operator's admission: it remembers nothing."""
        return Admission(self, (None,), self.limit, lambda: self.now)

    def active(self) -> list[str]:
        """Return the buffers with an active Job."""
        jobs = (self.objects[JOB, name] for name in self.named(JOB))
        return [job["metadata"]["labels"].get(labels.BUFFER) for job in jobs if not job.get("status")]

    async def visit(self, admission: Admission, name: str) -> None:
        """Have a buffer try its turn, unless its Job runs."""
        self.now += 2
        if name in self.active():
            return
        rebuild = self.buffer(name)["status"]["rebuild"]
        since = self.now - START if "waitingSince" not in rebuild else self.waits[name]
        async with admission.turn(Key(NAMESPACE, name), START + since) as admitted:
            if admitted:
                self.start(name)
            else:
                self.waits[name] = int(since)
                rebuild["waitingSince"] = timestamp(START + int(since))

    def start(self, name: str) -> None:
        """Make its Job; the next visit would clear what the status says about waiting, and does so here."""
        tags = labels.labels_of(name, Component.REBUILD)
        metadata = {"name": f"{name}-rebuild-{next(self.numbers)}", "namespace": NAMESPACE, "labels": tags}
        self.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata})
        self.buffer(name)["status"]["rebuild"].pop("waitingSince", None)
        self.waits.pop(name, None)
        self.started.append(name)

    def finish(self, number: int) -> None:
        """Have an active Job end."""
        names = [name for name in self.named(JOB) if not self.objects[JOB, name].get("status")]
        if names:
            self.objects[JOB, names[number % len(names)]]["status"] = {
                "conditions": [{"type": "Complete", "status": "True"}]
            }


STEPS = st.lists(
    st.tuples(st.sampled_from(["visit", "finish", "restart"]), st.integers(0, BUFFERS - 1)), min_size=1, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 4))
def test_the_limit_holds_and_the_longest_waiting_is_next(steps: list[tuple[str, int]], limit: int) -> None:
    """Over any history of visits, ends of Jobs and restarts of the operator."""

    async def check() -> None:
        fleet = Fleet(limit=limit)
        fleet.populate()
        admission = fleet.operator()
        for step, number in steps:
            if step == "restart":
                admission = fleet.operator()
            elif step == "finish":
                fleet.finish(number)
                fleet.now += 2
            else:
                waiting, before = dict(fleet.waits), len(fleet.started)
                await fleet.visit(admission, f"b{number}")
                assert len(fleet.active()) <= limit
                if len(fleet.started) > before:
                    free = limit - (len(fleet.active()) - 1)
                    mine = waiting.get(f"b{number}", fleet.now)
                    longer = [name for name, since in waiting.items() if (since, name) < (mine, f"b{number}")]
                    assert len(longer) < free, "a place was taken from one that has waited longer"

    asyncio.run(check())


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(BUFFERS)), st.integers(1, 4))
def test_everybody_gets_a_turn(order: list[int], limit: int) -> None:
    """In the order in which they came, whoever is visited first."""

    async def check() -> None:
        fleet = Fleet(limit=limit)
        fleet.populate()
        admission = fleet.operator()
        for number in range(BUFFERS):
            await fleet.visit(admission, f"b{number}")
        for _ in range(BUFFERS):
            fleet.finish(0)
            for number in order:
                if f"b{number}" not in fleet.started:
                    await fleet.visit(admission, f"b{number}")
        assert sorted(fleet.started) == [f"b{number}" for number in range(BUFFERS)]
        assert fleet.started == sorted(fleet.started)

    asyncio.run(check())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, BUFFERS))
def test_rebuilds_that_are_just_starting_count(limit: int, visitors: int) -> None:
    """Between the look and the Job there is an export, which takes its time: others look meanwhile."""

    async def check() -> None:
        fleet = Fleet(limit=limit)
        fleet.populate()
        admission = fleet.operator()
        async with AsyncExitStack() as exports:
            turns = [
                await exports.enter_async_context(admission.turn(Key(NAMESPACE, f"b{number}"), START))
                for number in range(visitors)
            ]
            assert sum(turns) == min(limit, visitors)

    asyncio.run(check())


def test_a_buffer_that_cannot_start_keeps_nobody_waiting() -> None:
    """One that is paused or being deleted does not hold the place that it waited for."""

    async def check() -> None:
        fleet = Fleet(limit=1)
        fleet.populate()
        for name, metadata in (("b0", {"annotations": {labels.PAUSED: "me"}}), ("b1", {"deletionTimestamp": "now"})):
            fleet.buffer(name)["metadata"] |= metadata
            fleet.buffer(name)["status"]["rebuild"]["waitingSince"] = timestamp(START)
        await fleet.visit(fleet.operator(), "b2")
        assert fleet.started == ["b2"]

    asyncio.run(check())


def test_jobs_of_others_do_not_count() -> None:
    """A Job with the same component label that belongs to no buffer takes no place."""

    async def check() -> None:
        fleet = Fleet(limit=1)
        fleet.populate()
        metadata = {"name": "other", "namespace": NAMESPACE, "labels": {labels.COMPONENT: str(Component.REBUILD)}}
        fleet.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata})
        await fleet.visit(fleet.operator(), "b0")
        assert fleet.started == ["b0"]

    asyncio.run(check())


def test_one_that_has_started_and_still_says_that_it_waits_counts_once() -> None:
    """Its Job is there before its status has been written."""
    first, second = Key(NAMESPACE, "b0"), Key(NAMESPACE, "b1")
    snapshot = Snapshot(frozenset({first}), {first: START, second: START + 1})
    assert its_turn(second, START + 1, snapshot, (), 2)
    assert not its_turn(second, START + 1, snapshot, (), 1)
