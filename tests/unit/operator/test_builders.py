"""Manifests: security, ports, what a pod sees of the cluster, and when a difference is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from buffer_operator import drift
from buffer_operator.builders import access
from buffer_operator.builders.job import rebuild_job
from buffer_operator.builders.metadata import stamped
from buffer_operator.builders.statefulset import stateful_set
from buffer_operator.kinds import Json
from buffer_operator.observed import Buffer
from buffer_operator.spec import Spec, parse_spec

from buffer_service.settings import Settings, known_settings

BASE: Json = {"embedding": {"dimension": 64}}


def _buffer() -> Buffer:
    return Buffer(
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


def _pod(spec: Spec) -> Json:
    pod: Json = stateful_set(_buffer(), spec, "image:1", "1Gi")["spec"]["template"]["spec"]
    return pod


def _job(spec: Spec) -> Json:
    return rebuild_job(_buffer(), spec, "image:1", 7)


def _job_pod(spec: Spec) -> Json:
    pod: Json = _job(spec)["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("build", [_pod, _job_pod])
def test_pods_meet_the_restricted_profile(build: Callable[[Spec], Json]) -> None:
    """As the API server checks it where a namespace enforces it, and a read-only root besides."""
    pod = build(parse_spec(BASE))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_data_pods_hold_no_credentials_and_jobs_one_token() -> None:
    """The Job's token is projected into the Job alone, and its Role names one ConfigMap."""
    kinds = [min(set(volume) - {"name"}) for volume in _pod(parse_spec(BASE))["volumes"]]
    assert kinds == ["configMap", "secret", "emptyDir"]
    projected = [volume for volume in _job_pod(parse_spec(BASE))["volumes"] if "projected" in volume]
    assert len(projected) == 1
    (rule,) = access.rebuild_role(_buffer())["rules"]
    assert rule["resourceNames"] == ["demo-index"]
    assert set(rule["verbs"]) == {"get", "patch", "update"}


def test_mounted_pointer_and_tokens_are_directories() -> None:
    """A file mounted by subPath would never change."""
    mounts = {mount["name"]: mount for mount in _pod(parse_spec(BASE))["containers"][0]["volumeMounts"]}
    assert "subPath" not in mounts["pointer"]
    assert "subPath" not in mounts["tokens"]


def test_a_job_sees_the_export_and_the_indexes_and_not_the_store() -> None:
    """The export read-only; beside the buffer's pod, since the volume is there."""
    pod = _job_pod(parse_spec(BASE))
    mounts = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "data"]
    assert [(mount["subPath"], mount.get("readOnly", False)) for mount in mounts] == [
        ("export", True),
        ("indexes", False),
    ]
    (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "buffer"


def test_a_job_that_cannot_succeed_is_not_repeated_and_an_eviction_does_not_count() -> None:
    """Exit status 65 ends it; disruptions are ignored."""
    body = _job(parse_spec(BASE))["spec"]
    disruption, unusable = body["podFailurePolicy"]["rules"]
    assert (disruption["action"], unusable["action"]) == ("Ignore", "FailJob")
    assert unusable["onExitCodes"]["values"] == [65]
    assert body["template"]["spec"]["restartPolicy"] == "Never"
    assert body["activeDeadlineSeconds"] == 3600


def test_a_gpu_is_asked_for_and_its_nodes_are_tolerated() -> None:
    """Without one the container is told that there is none."""
    spec = parse_spec(
        {**BASE, "gpu": {"count": 2, "resourceName": "nvidia.com/mig-1g.10gb", "runtimeClassName": "nvidia"}}
    )
    pod = _pod(spec)
    assert pod["containers"][0]["resources"] == {"limits": {"nvidia.com/mig-1g.10gb": "2"}}
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert _job_pod(spec)["tolerations"] == pod["tolerations"]
    hidden = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
    assert hidden not in pod["containers"][0]["env"]
    assert hidden in _pod(parse_spec(BASE))["containers"][0]["env"]
    assert hidden in _job_pod(spec)["containers"][0]["env"]


@pytest.mark.parametrize("build", [_pod, _job_pod])
def test_the_service_knows_every_setting_it_is_given(
    build: Callable[[Spec], Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and values are read by the service's own settings."""
    known = {f"XBUF_{group}__{field}".upper() for group, fields in known_settings().items() for field in fields}
    given = {entry["name"]: entry["value"] for entry in build(parse_spec(BASE))["containers"][0]["env"]}
    given.pop("NVIDIA_VISIBLE_DEVICES")
    assert set(given) <= known
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert Settings().index.type == "auto"


def test_the_template_of_a_spec_is_stable() -> None:
    """The same spec and image give the same manifest, so nothing restarts."""
    one, other = (stateful_set(_buffer(), parse_spec(BASE), "image:1", "1Gi") for _ in range(2))
    assert stamped(one) == stamped(other)


def test_quantities_that_the_api_server_rewrote_are_no_drift() -> None:
    """0.5 comes back as 500m, 1024Mi as 1Gi."""
    wanted = stamped({"metadata": {}, "spec": {"cpu": "0.5", "memory": "1024Mi"}})
    found = {"metadata": wanted["metadata"], "spec": {"cpu": "500m", "memory": "1Gi", "added": True}}
    assert not drift.differs(wanted, found)
    found["spec"]["cpu"] = "600m"
    assert drift.differs(wanted, found)


def test_a_longer_list_is_drift() -> None:
    """A second port added by hand to a list of ours goes again."""
    wanted = stamped({"metadata": {}, "spec": {"ports": [1]}})
    assert drift.differs(wanted, {"metadata": wanted["metadata"], "spec": {"ports": [1, 2]}})
