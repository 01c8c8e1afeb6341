"""``kubectl xbuf`` without a cluster: what it prints, how it tells what went wrong, how it foresees."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path

import pytest
from buffer_operator.kube import labels
from buffer_operator.kube.kinds import BUFFER, SECRET, Json
from buffer_operator.plugin.differences import Difference, differences, ours, replaced
from buffer_operator.plugin.kubectl import AbsentError, Kubectl, PluginError, problem
from buffer_operator.plugin.layout import WIDTH, age, facts, table
from buffer_operator.plugin.live import Live
from buffer_operator.plugin.main import build_parser, main
from buffer_operator.plugin.preview import Preview, foresee
from buffer_operator.plugin.preview_text import preview_text
from buffer_operator.plugin.report import report, rollback_targets, summary
from buffer_operator.plugin.requests import gone_back, rebuilt
from buffer_operator.resource.conditions import timestamp

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster


async def _lived(world: ModelCluster, operator: Driver, generations: int = 2) -> Json:
    for _ in range(generations):
        world.append(600)
        await operator.rounds(8)
    return world.buffer()


async def test_the_report_fits_and_tells_everything(world: ModelCluster, operator: Driver) -> None:
    """Every condition, the index in use and before, the volume, what started the rebuild."""
    resource = await _lived(world, operator)
    text = report(resource, world.now)
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    for condition in resource["status"]["conditions"]:
        assert f"{condition['type']} " in text
        assert condition["reason"] in text
    for shown in ("default/demo: Ready", "generation 2 at revision 2", "can be gone back to: 1", "data-demo-0"):
        assert shown in text
    assert "Operations" in text
    assert "No pod is about to be restarted." in text


async def test_the_report_tells_of_pause_suspension_and_rollback(world: ModelCluster, operator: Driver) -> None:
    """And of a change that no operator has looked at."""
    resource = await _lived(world, operator)
    world.annotate(labels.ROLLBACK_TO, "1@2")
    await operator.rounds(6)
    world.annotate(labels.PAUSED, "me")
    world.change_spec(suspend=True)
    text = report(resource, world.now)
    for shown in ("Paused (me)", "kubectl xbuf resume", "1@2 done at", "has not been looked at", "leads forward"):
        assert shown in text


async def test_the_report_of_a_buffer_that_no_operator_has_seen(world: ModelCluster) -> None:
    """There is no status at all."""
    text = report(world.buffer(), world.now)
    assert "not seen by an operator yet" in text


async def test_the_summary_is_the_status_and_what_follows_from_the_rest(world: ModelCluster, operator: Driver) -> None:
    """For programs."""
    resource = await _lived(world, operator)
    found = summary(resource)
    assert (found["namespace"], found["name"], found["rollbackTargets"]) == ("default", "demo", [1])
    assert (found["paused"], found["suspended"]) == (None, False)
    assert found["status"] == resource["status"]
    json.dumps(found)


@pytest.mark.parametrize(
    ("known", "current", "keep", "targets"),
    [
        ([5, 4, 3, 2], 5, 3, [4, 3]),
        ([3, 5, 4], 3, 3, []),
        ([6, 3, 5, 4], 6, 3, [5, 4, 3]),
        ([], 0, 3, []),
        ([7, 2], 7, 2, [2]),
    ],
)
def test_what_can_be_gone_back_to(known: list[int], current: int, keep: int, targets: list[int]) -> None:
    """Earlier than the one in use; the newest that are kept, and the one that was pointed to before."""
    index = {"generation": current, "known": [{"generation": number} for number in known]}
    resource = {"status": {"index": index}, "spec": {"rebuild": {"keepGenerations": keep}}}
    assert rollback_targets(resource) == targets


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?",
            "cannot be reached",
        ),
        (
            "E0101 memcache.go:265] dial tcp\nUnable to connect to the server: dial tcp: i/o timeout",
            "cannot be reached",
        ),
        (
            (
                'Error from server (Forbidden): experiencebuffers.pixelis.dev "demo" is forbidden: User "eve" cannot '
                'patch resource "experiencebuffers" in API group "pixelis.dev" in the namespace "default"'
            ),
            "You (eve) have no right to patch experiencebuffers here",
        ),
        ('error: the server doesn\'t have a resource type "experiencebuffers"', "install the operator's chart first"),
        ('error: context "x" does not exist', 'Context "x" does not exist.'),
        (
            (
                'Error from server (BadRequest): The request is invalid: patch: Invalid value: "{\\"a\\":\\"b\\"}": '
                'strict decoding error: unknown field "spec.x"'
            ),
            'The request is invalid: strict decoding error: unknown field "spec.x".',
        ),
        ("", "did not say why"),
    ],
)
def test_what_kubectl_says_becomes_one_sentence(said: str, sentence: str) -> None:
    """With what to do where that is known."""
    found = str(problem(said))
    assert sentence in found
    assert found.endswith(".")
    assert "\n" not in found


def test_what_is_not_there_is_told_apart() -> None:
    """Callers name the buffer then."""
    assert isinstance(problem('Error from server (NotFound): experiencebuffers.pixelis.dev "x" not found'), AbsentError)


def test_without_kubectl_the_plugin_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1 and one line."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["status", "demo"]) == 1
    assert (
        capsys.readouterr().err
        == "kubectl xbuf: kubectl is not on the PATH: the plugin talks to the cluster through it.\n"
    )


def test_kubectl_finds_the_plugin_by_its_name() -> None:
    """A script ``kubectl-xbuf`` on the PATH is ``kubectl xbuf``."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["kubectl-xbuf"].partition(":")
    assert getattr(importlib.import_module(module), function) is main


def test_connection_flags_go_before_and_after_the_command() -> None:
    """As people type them."""
    for words in (["-n", "a", "--context", "c", "status", "demo"], ["status", "demo", "-n", "a", "--context", "c"]):
        given = build_parser().parse_args(words)
        assert (given.namespace, given.context) == ("a", "c")


def test_flags_are_handed_to_kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before the command, which kubectl takes for all of its own."""
    script = tmp_path / "kubectl"
    script.write_text('#!/bin/sh\nprintf "%s " "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Kubectl(("--context", "c"), "a")("get", "pods") == "--context c --namespace a get pods "


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, [(("b", "c"), 2, 3)]),
        ({}, {"a": {"b": 1}}, [(("a", "b"), None, 1)]),
        ({"a": 1}, {}, [(("a",), 1, None)]),
        ({"m": "500m"}, {"m": "0.5"}, []),
        ({"e": [{"name": "x", "value": "1"}]}, {"e": [{"name": "x", "value": "2"}]}, [(("e", "x", "value"), "1", "2")]),
        ({"l": [1, 2]}, {"l": [1]}, [(("l",), [1, 2], [1])]),
    ],
)
def test_differences_are_leaves(before: Json, after: Json, found: list[Difference]) -> None:
    """Quantities that are the same are none; named entries are compared by name."""
    assert [tuple(one) for one in differences(before, after)] == found


def test_fields_of_others_are_no_difference() -> None:
    """The API server adds defaults to what was applied."""
    wanted = {"spec": {"containers": [{"name": "buffer", "image": "b"}]}}
    there = {"spec": {"containers": [{"name": "buffer", "image": "a", "imagePullPolicy": "Always"}], "dnsPolicy": "X"}}
    assert [tuple(one) for one in ours(wanted, there)] == [(("spec", "containers", "buffer", "image"), "a", "b")]


def test_one_leaf_is_replaced() -> None:
    """And the object that was given stays as it is."""
    before = {"a": {"b": 1}, "c": 2}
    assert replaced(before, ("a", "b"), 5) == {"a": {"b": 5}, "c": 2}
    assert replaced(before, ("x", "y"), 1) == {"a": {"b": 1}, "c": 2, "x": {"y": 1}}
    assert replaced(before, ("c",), None) == {"a": {"b": 1}}
    assert before == {"a": {"b": 1}, "c": 2}


async def _foreseen(world: ModelCluster, **changed: object) -> Preview:
    before = world.buffer()
    after = {**before, "spec": {**before["spec"], **changed}}
    objects = [item for (kind, _), item in world.objects.items() if kind not in (BUFFER, SECRET)]
    return await foresee(Live(after, objects, knows_pod_monitors=False), before, after, world.now)


async def test_a_change_that_restarts_is_foreseen(world: ModelCluster, operator: Driver) -> None:
    """Field by field, and as a whole; then it comes as foreseen."""
    await _lived(world, operator, 1)
    preview = await _foreseen(world, capacity=200_000, rebuild={"everyOperations": 700})
    effects = {field.field: field.effect for field in preview.fields}
    assert effects == {"capacity": "restarts demo-0", "rebuild.everyOperations": "no restart"}
    assert [restart["pod"] for restart in preview.restarts] == ["demo-0"]
    assert [step.action for step in preview.steps] == ["apply StatefulSet demo"]
    changes = preview.steps[0].changes
    assert "containers.buffer.env.XBUF_BUFFER__CAPACITY.value: 100000 → 200000" in changes
    text = preview_text(preview)
    assert "restarts demo-0" in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH


async def test_nothing_to_do_is_foreseen(world: ModelCluster, operator: Driver) -> None:
    """Of what is there already."""
    await _lived(world, operator, 1)
    preview = await _foreseen(world)
    assert (preview.fields, preview.steps, preview.restarts) == ([], [], [])
    assert "nothing to do" in preview_text(preview)


async def test_a_new_buffer_is_foreseen(world: ModelCluster) -> None:
    """Everything is made; there is no pod to restart."""
    after = world.buffer()
    preview = await foresee(Live(after, [], knows_pod_monitors=False), None, after, world.now)
    assert "create StatefulSet demo" in [step.action for step in preview.steps]
    assert "create the tokens" in [step.action for step in preview.steps]
    assert preview.restarts == []
    assert "would be made" in preview_text(preview)


async def test_a_spec_that_the_operator_refuses_is_told(world: ModelCluster, operator: Driver) -> None:
    """The API server lets it pass, the operator does not."""
    await _lived(world, operator, 1)
    preview = await _foreseen(world, rebuild={"schedule": "61 0 * * *"})
    assert "rebuild.schedule" in preview.objection
    assert preview.steps == []
    assert "the operator would do nothing" in preview_text(preview)


async def test_waiting_for_a_rebuild_ends_with_its_generation_served(world: ModelCluster, operator: Driver) -> None:
    """Not with the request seen, nor with the Job done."""
    resource = await _lived(world, operator, 1)
    world.annotate(labels.REBUILD, "token")
    seen = []
    for _ in range(8):
        await operator.rounds(1)
        seen.append(rebuilt(resource, "token"))
    told = [outcome for outcome in seen if outcome]
    assert seen[0] is None
    assert told
    assert told[0].startswith("generation 2 is served")


async def test_waiting_for_a_rebuild_that_fails_ends_with_its_reason(world: ModelCluster, operator: Driver) -> None:
    """As an error."""
    resource = await _lived(world, operator, 1)
    world.jobs_fail = True
    world.annotate(labels.REBUILD, "token")
    await operator.rounds(4)
    with pytest.raises(PluginError, match="it broke"):
        rebuilt(resource, "token")


async def test_waiting_for_a_rollback_ends_with_its_verdict(world: ModelCluster, operator: Driver) -> None:
    """Done and served, or refused with the reason."""
    resource = await _lived(world, operator)
    assert gone_back(resource, "1@2") is None
    world.annotate(labels.ROLLBACK_TO, "1@2")
    await operator.rounds(6)
    assert "generation 1 is served again" in (gone_back(resource, "1@2") or "")
    world.annotate(labels.ROLLBACK_TO, "2@3")
    await operator.rounds(3)
    with pytest.raises(PluginError, match="only a rebuild leads forward"):
        gone_back(resource, "2@3")


async def test_waiting_for_a_rollback_that_the_pod_refuses_ends_with_its_reason(
    world: ModelCluster, operator: Driver
) -> None:
    """The generation was there to go back to, and is damaged."""
    resource = await _lived(world, operator)
    world.bad_generations = {1}
    world.annotate(labels.ROLLBACK_TO, "1@2")
    await operator.rounds(8)
    assert world.pointer().generation == 2
    with pytest.raises(PluginError, match=r"moved again.*a canary was not found"):
        gone_back(resource, "1@2")


def test_columns_are_aligned_and_wrapped() -> None:
    """The last one wraps under itself."""
    lines = table(["A", "B"], [["x", "word " * 40]])
    assert lines[0] == "A  B"
    assert lines[1].startswith("x  word")
    assert lines[2].startswith("   word")
    assert max(len(line) for line in lines) <= WIDTH
    assert table(["A", "B"], []) == []
    assert facts([("One", "1"), ("One", "2"), ("Empty", "")]) == ["One  1", "     2"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (200_000, "2d")])
def test_ages_are_short(seconds: int, text: str) -> None:
    """As kubectl shows them."""
    assert age(timestamp(1_700_000_000), 1_700_000_000.0 + seconds) == text
