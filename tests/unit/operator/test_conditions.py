"""Conditions and phase: what they say, and when their times move."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from buffer_operator.kube.kinds import EVENT, POD
from buffer_operator.resource.conditions import ConditionType, Reason

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_api import SPEC
from tests.unit.operator.model_cluster import ModelCluster

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_given_somewhere_and_explained(reason: Reason) -> None:
    """None is only listed, and none is met by somebody who cannot look it up."""
    package = REPOSITORY / "operator" / "buffer_operator"
    sources = (path.read_text() for path in package.rglob("*.py"))
    assert any(re.search(rf"\bReason\.{reason.name}\b", source) for source in sources)
    assert f"`{reason}`" in (REPOSITORY / "docs" / "operator.md").read_text()


async def test_the_first_visit_sets_every_condition_to_unknown(world: ModelCluster, operator: Driver) -> None:
    """Nobody has to guess whether a condition is missing or false."""
    await operator.visit()
    conditions = world.buffer()["status"]["conditions"]
    assert [entry["type"] for entry in conditions] == list(ConditionType)
    assert {entry["status"] for entry in conditions} == {"Unknown"}


async def test_a_ready_buffer_says_so(world: ModelCluster, operator: Driver) -> None:
    """Conditions carry the generation of the spec; phase and ready are derived."""
    world.append(7)
    await operator.rounds(5)
    status = world.buffer()["status"]
    assert {entry["observedGeneration"] for entry in status["conditions"]} == {1}
    assert all(entry["reason"] in set(Reason) and entry["message"].endswith(".") for entry in status["conditions"])
    assert (status["phase"], status["ready"], status["records"], status["capacity"]) == ("Ready", "1/1", 7, 100_000)
    assert status["endpoint"] == "http://demo.default.svc"


async def test_transition_times_move_only_with_the_status(world: ModelCluster, operator: Driver) -> None:
    """A new message is no transition."""
    await operator.rounds(5)
    before = world.condition("IndexCurrent")
    world.append(600)
    await operator.rounds(12)
    after = world.condition("IndexCurrent")
    assert (before["reason"], after["reason"]) == ("NoGeneration", "Served")
    assert world.buffer()["status"]["index"]["generation"] == 1
    assert after["lastTransitionTime"] >= before["lastTransitionTime"]
    await operator.rounds(5)
    assert world.condition("IndexCurrent") == after


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"embedding": {"dimension": 0}}, "dimension"),
        ({**SPEC, "capacity": -1}, "capacity"),
        ({**SPEC, "persistence": {"backend": "tape"}}, "backend"),
        ({**SPEC, "rebuild": {"everyOperations": 40_000}}, "everyOperations"),
        ({**SPEC, "replicas": 2}, "replicas"),
        ({}, "embedding"),
    ],
)
async def test_a_spec_that_cannot_be_followed_changes_nothing(spec: dict[str, object], word: str) -> None:
    """Where the CRD let it through: the condition names the field, and no object is made."""
    world = ModelCluster()
    world.make_buffer(spec=spec or {"capacity": 5})
    await Driver(world).rounds(3)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert word in ready["message"]
    assert world.buffer()["status"]["phase"] == "Invalid"
    assert set(world.writes) == {"status", "create Event"}


async def test_an_invalid_change_leaves_the_running_buffer_alone(world: ModelCluster, operator: Driver) -> None:
    """The pod goes on; the condition is about the new generation of the spec."""
    await operator.rounds(5)
    uid = world.objects[POD, "demo-0"]["metadata"]["uid"]
    world.change_spec(capacity=-1)
    await operator.rounds(3)
    assert world.condition("Ready")["reason"] == "InvalidSpec"
    assert world.condition("Ready")["observedGeneration"] == 2
    assert world.objects[POD, "demo-0"]["metadata"]["uid"] == uid


async def test_a_pod_without_a_node_is_pending_with_the_schedulers_reason(world: ModelCluster) -> None:
    """Ready says what is missing."""
    world.no_node = True
    world.change_spec(gpu={"count": 1})
    await Driver(world).rounds(4)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Unschedulable")
    assert "insufficient nvidia.com/gpu" in ready["message"]
    assert world.buffer()["status"]["phase"] == "Pending"


async def test_a_fallback_to_the_cpu_is_one_warning(world: ModelCluster, operator: Driver) -> None:
    """It is in the status for as long as it lasts, and in one Event."""
    world.change_spec(gpu={"count": 1})
    await operator.rounds(10)
    assert world.buffer()["status"]["backend"] == {
        "requested": "auto",
        "active": "cpu",
        "reason": "no GPU can be used",
    }
    events = [item for (kind, _), item in world.objects.items() if kind == EVENT]
    fallbacks = [event for event in events if event["reason"] == "BackendFellBack"]
    assert [(event["type"], event["message"]) for event in fallbacks] == [("Warning", "no GPU can be used")]


async def test_counters_stay_while_no_pod_answers(world: ModelCluster, operator: Driver) -> None:
    """What was known last is better than nothing; what is served is unknown."""
    world.append(7)
    await operator.rounds(5)
    world.delete(POD, "demo-0")
    await operator.visit()
    status = world.buffer()["status"]
    assert (status["records"], status["ready"], status["phase"]) == (7, "0/1", "Starting")
    assert world.condition("IndexCurrent")["reason"] == "PodsSilent"


async def test_what_the_api_server_refuses_is_told_in_its_words(world: ModelCluster, operator: Driver) -> None:
    """A buffer that cannot be made is not ready; one that runs stays ready and does not progress."""
    world.refuses = {"StatefulSet": "exceeded quota: requests.storage=10Gi"}
    await operator.rounds(3)
    ready = world.condition("Ready")
    assert (ready["reason"], ready["message"]) == ("RefusedByApi", "exceeded quota: requests.storage=10Gi")
    assert world.buffer()["status"]["phase"] == "Blocked"
    world.refuses = {}
    await operator.rounds(4)
    world.refuses = {"StatefulSet": "exceeded quota: limits.memory=1Gi"}
    world.change_spec(capacity=7)
    await operator.rounds(2)
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Progressing")["message"] == "exceeded quota: limits.memory=1Gi"
