"""Two operators, one Lease: one of them acts; one that was stopped past its Lease writes nothing when it goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.support.buffers import RESOURCE, Buffer
from tests.e2e.support.kubectl import Kubectl, eventually
from tests.e2e.support.local_operator import LocalOperator, running
from tests.e2e.support.measured import Measured
from tests.e2e.support.paused import is_settled, paused_manifest
from tests.helpers.api_proxy import ApiProxy
from tests.helpers.waiting import wait_until

LEASE_S = 3
TAKEN_OVER_BAR_S = 15.0
HANDED_OVER_BAR_S = 10.0
LEASES = "/leases/"

pytestmark = pytest.mark.timeout(180)


class Operator:
    """An operator with a proxy of its own, which tells what it writes."""

    def __init__(self, stack: ExitStack, folder: Path, image: str, namespace: str) -> None:
        folder.mkdir()
        self.proxy = stack.enter_context(ApiProxy())
        config = self.proxy.kubeconfig(folder / "kubeconfig")
        options = {"namespaces": namespace, "lease_namespace": namespace, "lease_duration_s": LEASE_S, "poll_s": 0.5}
        self.process: LocalOperator = stack.enter_context(running(folder, image, config, **options))

    def leads(self) -> bool:
        """Whether it says that it may act."""
        return self.process.metric("xbuf_operator_leading") == 1

    def writes(self) -> list[str]:
        """Return what it has written but for its Lease."""
        return [f"{write.verb} {write.path}" for write in self.proxy.writes if LEASES not in write.path]


@pytest.fixture
def two(tmp_path: Path, kubectl: Kubectl, nobody_else: str) -> Iterator[tuple[Operator, Operator]]:
    """Yield the one that leads and the one that stands by."""
    with ExitStack() as stack:
        first = Operator(stack, tmp_path / "a", nobody_else, kubectl.namespace)
        wait_until(first.leads, "the first to lead", 30, 0.1)
        second = Operator(stack, tmp_path / "b", nobody_else, kubectl.namespace)
        kubectl.apply(paused_manifest())
        eventually(lambda: is_settled(Buffer(kubectl)), "a buffer at rest", 30)
        yield first, second


def test_one_that_stands_by_writes_nothing_and_is_ready(two: tuple[Operator, Operator]) -> None:
    """So that a rollout goes on, and two replicas are two ready pods."""
    first, second = two
    assert (first.leads(), second.leads()) == (True, False)
    assert second.process.ask("/readyz").strip() == "standing by"
    assert second.process.ask("/livez").strip() == "ok"
    assert first.writes() != []
    assert [write for write in second.proxy.writes if write.verb != "GET"] == []


def test_one_that_was_stopped_past_its_lease_writes_nothing_when_it_goes_on(
    two: tuple[Operator, Operator], kubectl: Kubectl, measured: Measured
) -> None:
    """It is stopped in the middle of work; the other takes over and does it; the first one ends with a failure."""
    first, second = two
    kubectl.apply(*(paused_manifest(f"more-{number}") for number in range(5)))
    wait_until(lambda: sum("more-" in write for write in first.writes()) >= 5, "the first to be at work", 30)
    first.process.process.send_signal(signal.SIGSTOP)
    seconds = measured.time(lambda: wait_until(second.leads, "the second to lead", 60, 0.1))
    measured.below(f"leader stopped: until the other acts (lease of {LEASE_S} s)", seconds, TAKEN_OVER_BAR_S)
    kubectl("patch", RESOURCE, "demo", "--type=merge", "--patch", '{"spec":{"capacity":4711}}')
    buffers = [Buffer(kubectl, f"more-{number}") for number in range(5)]
    eventually(lambda: all(is_settled(one) for one in buffers), "the second to finish the work", 60)
    written = len(first.proxy.writes)
    first.process.process.send_signal(signal.SIGCONT)
    assert first.process.process.wait(60) == 1
    late = first.proxy.writes[written:]
    assert [write for write in late if write.status < 400] == [], late
    assert "no longer ours" in first.process.log()
    eventually(lambda: is_settled(Buffer(kubectl)), "all at rest", 30)


def test_one_that_is_told_to_end_hands_over_at_once(
    two: tuple[Operator, Operator], kubectl: Kubectl, measured: Measured
) -> None:
    """No Lease has to run out when the operator is upgraded."""
    first, second = two
    first.process.process.send_signal(signal.SIGTERM)
    seconds = measured.time(lambda: wait_until(second.leads, "the second to lead", 30, 0.05))
    measured.below("leader told to end: until the other acts", seconds, HANDED_OVER_BAR_S)
    assert first.process.process.wait(30) == 0
    kubectl("delete", "statefulset", "demo", "--cascade=orphan", "--wait=false")
    eventually(second.writes, "the second to act", 30)
    eventually(lambda: kubectl.get("statefulset", "demo"), "another StatefulSet", 30)
