"""An operator with the rights of one namespace, as the chart gives them: enough for every object, and no more."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer_service.contract import names
from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.kubectl import CommandError, Json, Kubectl, command, eventually
from tests.e2e.support.local_operator import LocalOperator, running
from tests.e2e.support.namespaces import Namespaces

CHART = Path(__file__).parents[2] / "helm" / "experience-buffer-operator"
ACCOUNT = "experience-buffer-operator"
SOON_S = 20.0
POD_MONITOR_CRD: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "podmonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def own(namespaces: Namespaces) -> Iterator[Kubectl]:
    """Yield kubectl in a restricted namespace with the chart's account, Role and RoleBinding."""
    made = namespaces.make(f"least-rights-{uuid.uuid4().hex[:4]}")
    chart = ["helm", "template", ACCOUNT, str(CHART), "--namespace", made.namespace]
    chart += ["--set", f"watchNamespaces={{{made.namespace}}}", "--show-only", "templates/rbac.yaml"]
    made("apply", "--filename", "-", stdin=command(*chart))
    yield made
    namespaces.remove(made)


@pytest.fixture(scope="module")
def kubeconfig(own: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a kubeconfig of that account alone."""
    text = command("kubectl", "config", "view", "--raw", "--flatten", "--minify", "--output", "json")
    config: Json = json.loads(text)
    config["users"][0]["user"] = {"token": own("create", "token", ACCOUNT, "--duration=1h").strip()}
    path = tmp_path_factory.mktemp("account") / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module")
def local(
    own: Kubectl, kubeconfig: Path, nobody_else: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalOperator]:
    """Yield an operator of this checkout that acts with those rights."""
    options = {"namespaces": own.namespace, "poll_s": 0.5}
    with running(tmp_path_factory.mktemp("operator"), nobody_else, kubeconfig, **options) as operator:
        yield operator


@pytest.fixture(scope="module")
def buffer(own: Kubectl, local: LocalOperator) -> Buffer:
    """Return the buffer ``demo`` of that operator, ready."""
    del local
    own.apply(manifest(podTemplate={"metadata": {"labels": {"team": "vision"}}}))
    made = Buffer(own)
    made.wait_ready()
    return made


def _made(own: Kubectl, kind: str, name: str) -> bool:
    return own.get(kind, name) is not None


def test_objects_come_and_go_as_the_spec_asks(own: Kubectl, local: LocalOperator, buffer: Buffer) -> None:
    """In a namespace that enforces the restricted profile; the pod stays, and nothing that was tried was forbidden."""
    uid = buffer.pod()["metadata"]["uid"]
    assert buffer.pod()["metadata"]["labels"]["team"] == "vision"
    buffer.patch({"networkPolicy": {"enabled": True}, "disruptionBudget": "Block", "monitoring": {"podMonitor": True}})
    eventually(lambda: _made(own, "networkpolicy", "demo"), "a NetworkPolicy", SOON_S)
    eventually(lambda: _made(own, "poddisruptionbudget", "demo"), "a budget", SOON_S)
    buffer.patch({"networkPolicy": {"enabled": False}, "disruptionBudget": "Auto"})
    eventually(lambda: not _made(own, "networkpolicy", "demo"), "no NetworkPolicy", SOON_S)
    eventually(lambda: not _made(own, "poddisruptionbudget", "demo"), "no budget", SOON_S)
    assert buffer.pod()["metadata"]["uid"] == uid
    assert buffer.condition("Ready")["status"] == "True"
    assert "forbidden" not in local.log()


def test_an_eviction_is_refused_only_where_that_was_asked_for(own: Kubectl, buffer: Buffer) -> None:
    """By default a drain goes ahead: the pod is replaced and the volume stays."""
    buffer.patch({"disruptionBudget": "Block"})
    eventually(lambda: _made(own, "poddisruptionbudget", "demo"), "a budget", SOON_S)
    before = buffer.wait_ready() and buffer.pod()["metadata"]["uid"]

    def refused() -> bool:
        try:
            _evict(own, buffer.pod_name, dry_run=True)
        except CommandError as error:
            return "disruption budget" in str(error)
        return False

    eventually(refused, "the budget to be in force", SOON_S)
    buffer.patch({"disruptionBudget": "Auto"})
    eventually(lambda: not _made(own, "poddisruptionbudget", "demo"), "no budget", SOON_S)
    _evict(own, buffer.pod_name)
    eventually(lambda: (own.get("pod", buffer.pod_name) or {}).get("metadata", {}).get("uid") != before, "a new", 60)
    buffer.wait_ready()


def _evict(own: Kubectl, pod: str, *, dry_run: bool = False) -> None:
    eviction: Json = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    if dry_run:
        eviction["deleteOptions"] = {"dryRun": ["All"]}
    path = f"/api/v1/namespaces/{own.namespace}/pods/{pod}/eviction"
    own("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))


def test_tokens_of_the_user_are_waited_for_and_then_used(own: Kubectl, local: LocalOperator) -> None:
    """The condition names the Secret; none is made, and theirs is left as it is."""
    del local
    buffer = Buffer(own, "shared")
    own.apply(manifest("shared", auth={"secretName": "team-tokens"}))
    why = buffer.wait_condition("Ready", "False", SOON_S, "SecretUnusable")["message"]
    assert "team-tokens" in why
    tokens = {scope: f"{scope}-token" for scope in names.TOKEN_SCOPES}
    metadata = {"name": "team-tokens"}
    own.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": tokens})
    version = own.existing("secret", "team-tokens")["metadata"]["resourceVersion"]
    buffer.wait_ready(150)
    assert not _made(own, "secret", "shared-token")
    assert own.existing("secret", "team-tokens")["metadata"]["resourceVersion"] == version


FORBIDDEN = [
    ("list", "secrets"),
    ("watch", "secrets"),
    ("patch", "secrets"),
    ("delete", "pods"),
    ("create", "pods"),
    ("delete", "persistentvolumeclaims"),
    ("delete", "experiencebuffers.pixelis.dev"),
    ("delete", "jobs.batch"),
    ("delete", "configmaps"),
    ("bind", "roles.rbac.authorization.k8s.io"),
    ("escalate", "roles.rbac.authorization.k8s.io"),
    ("create", "clusterroles.rbac.authorization.k8s.io"),
    ("list", "nodes"),
]


@pytest.mark.parametrize(("verb", "resource"), FORBIDDEN, ids=str)
def test_the_operator_may_not(own: Kubectl, verb: str, resource: str) -> None:
    """As the API server judges it."""
    assert not _may(own, f"system:serviceaccount:{own.namespace}:{ACCOUNT}", verb, resource)


def test_the_operator_may_do_nothing_in_another_namespace(own: Kubectl) -> None:
    """Not even read."""
    account = f"system:serviceaccount:{own.namespace}:{ACCOUNT}"
    for resource in ("secrets", "pods", "configmaps", "experiencebuffers.pixelis.dev"):
        assert not _may(Kubectl("default"), account, "get", resource)


@pytest.fixture
def pod_monitors() -> Iterator[str]:
    """Yield the kind PodMonitor, which this cluster learns for the test where it does not know it."""
    kind = "podmonitors.monitoring.coreos.com"
    known = "customresourcedefinition" in command(
        "kubectl", "get", "crd", kind, "--ignore-not-found", "--output", "name"
    )
    if not known:
        command("kubectl", "apply", "--filename", "-", stdin=json.dumps(POD_MONITOR_CRD))
        command("kubectl", "wait", "--for=condition=Established", f"crd/{kind}", "--timeout=20s")
    yield kind
    if not known:
        command("kubectl", "delete", "crd", kind)


def test_a_pod_monitor_is_made_where_the_kind_is_known(
    own: Kubectl, kubeconfig: Path, local: LocalOperator, buffer: Buffer, pod_monitors: str, tmp_path: Path
) -> None:
    """The operator that started before says that it knows none; one that starts now makes it, and removes it."""
    buffer.patch({"monitoring": {"podMonitor": True, "labels": {"release": "prometheus"}}})
    said = "the cluster does not know that kind"
    eventually(lambda: said in buffer.condition("Progressing").get("message", ""), "that to be said", SOON_S)
    local.process.send_signal(signal.SIGSTOP)
    options = {"namespaces": own.namespace, "poll_s": 0.5}
    with running(tmp_path, buffer.status()["image"], kubeconfig, **options):
        eventually(lambda: _made(own, pod_monitors, "demo"), "a PodMonitor", SOON_S)
        assert own.existing(pod_monitors, "demo")["metadata"]["labels"]["release"] == "prometheus"
        buffer.patch({"monitoring": {"podMonitor": False}})
        eventually(lambda: not _made(own, pod_monitors, "demo"), "no PodMonitor", SOON_S)
    local.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("account", "verb", "resource", "allowed"),
    [
        ("demo-rebuild", "patch", "configmaps/demo-index", True),
        ("demo-rebuild", "patch", "configmaps/other-index", False),
        ("demo-rebuild", "list", "configmaps", False),
        ("demo-rebuild", "get", "secrets/demo-token", False),
        ("demo", "get", "configmaps/demo-index", False),
        ("demo", "get", "secrets/demo-token", False),
    ],
)
def test_jobs_may_touch_one_config_map_and_pods_nothing(
    own: Kubectl, buffer: Buffer, account: str, verb: str, resource: str, *, allowed: bool
) -> None:
    """Whatever runs in them gets no further."""
    assert _made(own, "rolebinding", f"{buffer.name}-rebuild")
    assert _may(own, f"system:serviceaccount:{own.namespace}:{account}", verb, resource) is allowed


def _may(kubectl: Kubectl, account: str, verb: str, resource: str) -> bool:
    try:
        return kubectl("auth", "can-i", verb, resource, "--as", account).strip() == "yes"
    except CommandError:  # "no" comes with exit status 1
        return False
