"""Manifests: security, ports, what a pod sees of the cluster, and when a difference is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from buffer_operator.builders import access
from buffer_operator.builders.job import Cause, rebuild_job
from buffer_operator.builders.metadata import stamped
from buffer_operator.builders.networkpolicy import network_policy
from buffer_operator.builders.pdb import disruption_budget
from buffer_operator.builders.podmonitor import pod_monitor
from buffer_operator.builders.statefulset import stateful_set
from buffer_operator.kube import drift
from buffer_operator.kube.kinds import Json
from buffer_operator.resource.spec import Spec, parse_spec

from tests.unit.operator.manifests import a_buffer

BASE: Json = {"embedding": {"dimension": 64}}


def _pod(spec: Spec) -> Json:
    pod: Json = stateful_set(a_buffer(), spec, "image:1", "1Gi")["spec"]["template"]["spec"]
    return pod


def _job(spec: Spec) -> Json:
    return rebuild_job(a_buffer(), spec, "image:1", 7, Cause("operations", "500 operations wait"), 4)


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
    (rule,) = access.rebuild_role(a_buffer())["rules"]
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


def test_a_slice_is_asked_for_by_its_own_name() -> None:
    """As the device plugin offers it with the mixed strategy."""
    pod = _pod(parse_spec({**BASE, "gpu": {"migProfile": "1g.10gb"}}))
    assert pod["containers"][0]["resources"] == {"limits": {"nvidia.com/mig-1g.10gb": "1"}}


def test_tokens_of_the_user_are_mounted_in_place_of_ours() -> None:
    """Under the same path, so the service need not know."""
    volumes = _pod(parse_spec({**BASE, "auth": {"secretName": "shared"}}))["volumes"]
    assert {"name": "tokens", "secret": {"secretName": "shared"}} in volumes


def test_a_network_policy_lets_peers_and_the_operator_in_and_nothing_out() -> None:
    """Without peers, the buffer's namespace; metrics from everywhere only where somebody is asked to scrape them."""
    policy = network_policy(a_buffer(), parse_spec({**BASE, "networkPolicy": {"enabled": True}}))["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    peers, operator = policy["ingress"]
    assert peers["from"] == [{"podSelector": {}}]
    assert [port["port"] for port in peers["ports"]] == [8080, 9090]
    assert operator["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "experience-buffer-operator"}
    assert [port["port"] for port in operator["ports"]] == [8080]
    given = [{"namespaceSelector": {"matchLabels": {"team": "vision"}}}]
    spec = {**BASE, "networkPolicy": {"enabled": True, "from": given}, "monitoring": {"podMonitor": True}}
    peers, _, scraper = network_policy(a_buffer(), parse_spec(spec))["spec"]["ingress"]
    assert peers["from"] == given
    assert scraper == {"from": [{"namespaceSelector": {}}], "ports": [{"port": 9090, "protocol": "TCP"}]}


def test_a_disruption_budget_lets_a_pod_go_that_is_not_ready() -> None:
    """Otherwise a pod that never gets ready would hold its node for ever."""
    body = disruption_budget(a_buffer())["spec"]
    assert (body["maxUnavailable"], body["unhealthyPodEvictionPolicy"]) == (0, "AlwaysAllow")


def test_a_pod_monitor_carries_the_users_labels_beside_ours() -> None:
    """A Prometheus chooses by them; ours win."""
    labels = {"release": "prometheus", "pixelis.dev/buffer": "other"}
    monitor = pod_monitor(a_buffer(), parse_spec({**BASE, "monitoring": {"podMonitor": True, "labels": labels}}))
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["metadata"]["labels"]["pixelis.dev/buffer"] == "demo"
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "operations", "path": "/metrics"}]
