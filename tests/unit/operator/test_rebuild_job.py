"""The rebuild Job: where it runs, with what, how it ends, what it says about itself."""

from __future__ import annotations

import pytest
from buffer_operator.builders.job import Cause, rebuild_job
from buffer_operator.kube import labels
from buffer_operator.kube.kinds import JOB, Json
from buffer_operator.observing.observed import Buffer
from buffer_operator.resource.spec import parse_spec

from buffer_service import cli
from buffer_service.contract import names
from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster

GPU: Json = {"count": 2, "resourceName": "nvidia.com/gpu", "runtimeClassName": "nvidia"}


def _job(searched_on: str = "cpu", cause: Cause | None = None, **spec: object) -> Json:
    buffer = Buffer(
        namespace="ns",
        name="demo",
        uid="u",
        generation=1,
        deleting=False,
        spec=None,
        invalid="",
        status={},
        resource={},
    )
    parsed = parse_spec({"embedding": {"dimension": 64}, **spec})
    return rebuild_job(buffer, parsed, "image:1", 7, cause or Cause("Delta", "9 rows"), 4, searched_on)


def _pod(job: Json) -> Json:
    pod: Json = job["spec"]["template"]["spec"]
    return pod


def test_it_runs_where_the_volume_is() -> None:
    """A volume that one node alone can mount is mounted by the pod there: the Job has to follow it."""
    rules = _pod(_job())["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert [rule["topologyKey"] for rule in rules] == ["kubernetes.io/hostname"]
    assert rules[0]["labelSelector"]["matchLabels"] == {labels.BUFFER: "demo", labels.COMPONENT: "buffer"}


def test_it_ends_by_itself() -> None:
    """Deadline, retries, unusable input, evictions, removal."""
    spec = _job(rebuild={"deadlineSeconds": 77})["spec"]
    assert (spec["activeDeadlineSeconds"], spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (77, 2, 3600)
    ignored, failing = spec["podFailurePolicy"]["rules"]
    assert (ignored["action"], ignored["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (failing["action"], failing["onExitCodes"]["values"]) == ("FailJob", [names.EXIT_UNUSABLE_INPUT])
    assert _pod({"spec": spec})["restartPolicy"] == "Never"


@pytest.mark.parametrize(
    ("device", "gpu", "has_gpu"),
    [("cpu", GPU, False), ("gpu", GPU, True), ("auto", GPU, True), ("auto", None, False), ("cpu", None, False)],
)
def test_a_gpu_is_asked_for_where_it_builds_on_one(device: str, gpu: Json | None, has_gpu: bool) -> None:  # noqa: FBT001
    """One, with the runtime class, and the program is told to use it; otherwise the container sees none."""
    pod = _pod(_job(rebuild={"device": device}, **({"gpu": gpu} if gpu else {})))
    container = pod["containers"][0]
    command = container["command"]
    asked = container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu")
    hidden = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]
    assert (asked, pod.get("runtimeClassName"), hidden) == (("1", "nvidia", False) if has_gpu else (None, None, True))
    assert command[command.index("--build-on") + 1] == ("gpu" if has_gpu else "cpu")


def test_it_has_resources_of_its_own() -> None:
    """Not those of the buffer."""
    resources = {"requests": {"cpu": 1}, "limits": {"memory": "2Gi"}}
    container = _pod(_job(rebuild={"resources": resources}, resources={"requests": {"cpu": 9}}))["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}


def test_it_says_what_started_it() -> None:
    """Its annotations are what the operator remembers it by."""
    annotations = _job(cause=Cause("Manual", "asked for", "token"))["metadata"]["annotations"]
    assert annotations == {labels.TRIGGER: "Manual", labels.TRIGGER_MESSAGE: "asked for", labels.REBUILD: "token"}
    assert labels.REBUILD not in _job()["metadata"]["annotations"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_program_understands_its_arguments(device: str) -> None:
    """And is told what the index is searched on, by which it picks the type."""
    command = _pod(_job(device, rebuild={"keepGenerations": 5}))["containers"][0]["command"]
    given = cli._parser().parse_args(command[1:])
    assert (given.generation, given.revision, given.keep, given.device) == (7, 4, 5, device)
    assert given.namespace == "ns"


async def test_the_device_is_the_one_that_the_pods_search_on(world: ModelCluster, operator: Driver) -> None:
    """As they report it: a fallback counts."""
    world.process.active_backend = "gpu"
    world.append(600)
    await operator.rounds(6)
    command = _pod(world.objects[JOB, "demo-rebuild-1"])["containers"][0]["command"]
    assert command[command.index("--device") + 1] == "gpu"
