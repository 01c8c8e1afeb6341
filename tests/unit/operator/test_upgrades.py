"""A newer operator that would make another pod template restarts no pod."""

from __future__ import annotations

import pytest
from buffer_operator.builders import statefulset
from buffer_operator.kube.kinds import POD, STATEFUL_SET
from buffer_operator.planning.pinning import inputs_of
from buffer_operator.resource.spec import Spec, parse_spec

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster
from tests.unit.operator.test_restart_table import leaves, template_of, with_change

GRACE = "terminationGracePeriodSeconds"


def _pod(world: ModelCluster) -> tuple[str, int]:
    pod = world.objects[POD, "demo-0"]
    return pod["metadata"]["uid"], pod["spec"][GRACE]


async def test_another_template_for_the_same_spec_waits_for_a_change(
    world: ModelCluster, operator: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written after the upgrade; what the template does not depend on changes nothing, either."""
    await operator.rounds(6)
    before, writes = _pod(world), len(world.writes)
    monkeypatch.setattr(statefulset, "_GRACE_S", 77)
    operator.restart()
    await operator.rounds(4)
    assert world.writes[writes:] == []
    world.change_spec(rebuild={"everyOperations": 50}, persistence={"size": "10Gi", "whenDeleted": "Delete"})
    await operator.rounds(4)
    assert _pod(world) == before
    world.change_spec(capacity=7)
    await operator.rounds(4)
    uid, grace = _pod(world)
    assert (uid != before[0], grace) == (True, 77)


async def test_an_upgrade_while_the_stateful_set_is_away_restarts_no_pod(
    world: ModelCluster, operator: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod has kept the template."""
    await operator.rounds(6)
    before = _pod(world)
    world.change_spec(persistence={"size": "20Gi"})
    while (STATEFUL_SET, "demo") in world.objects:
        await operator.visit()
        world.step()
    monkeypatch.setattr(statefulset, "_GRACE_S", 77)
    operator.restart()
    await operator.rounds(6)
    assert _pod(world) == before
    assert not any("template" in name for name in world.objects[POD, "demo-0"]["metadata"]["annotations"])


async def test_a_template_changed_by_hand_is_still_put_back(world: ModelCluster, operator: Driver) -> None:
    """To what was applied, not to what a newer operator would make."""
    await operator.rounds(6)
    world.objects[STATEFUL_SET, "demo"]["spec"]["template"]["spec"][GRACE] = 5
    await operator.rounds(2)
    assert world.objects[STATEFUL_SET, "demo"]["spec"]["template"]["spec"][GRACE] == 30


@pytest.mark.parametrize("path", list(leaves(Spec)))
def test_no_change_that_the_template_depends_on_is_kept_from_the_pods(path: str) -> None:
    """Whatever changes the template changes the digest, for every field of the spec."""
    before, after = parse_spec(with_change()), parse_spec(with_change(path))
    images = [spec.image or "experience-buffer:1" for spec in (before, after)]
    if template_of(before) != template_of(after):
        assert inputs_of(before, images[0]) != inputs_of(after, images[1])
