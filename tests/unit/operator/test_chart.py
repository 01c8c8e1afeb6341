"""The chart as Helm renders it. Skipped where there is no Helm."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from buffer_operator.builders.networkpolicy import OPERATOR_LABELS
from buffer_operator.kube.kinds import BUFFER, Json
from buffer_operator.kube.watches import WATCHED
from buffer_operator.settings import load_settings

REPOSITORY = Path(__file__).parents[3]
CHART = REPOSITORY / "helm" / "experience-buffer-operator"
CACHE = Path(os.environ.get("XBUF_CACHE") or Path.home() / ".cache" / "experience-buffer")
HELM = shutil.which("helm") or shutil.which("helm", path=str(CACHE / "cluster" / "bin"))

NAME = "release-experience-buffer-operator"

pytestmark = pytest.mark.skipif(HELM is None, reason="there is no helm")


def _helm(*options: str) -> subprocess.CompletedProcess[str]:
    assert HELM
    command = [HELM, "template", "release", str(CHART), "--namespace", "system", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _render(*options: str) -> list[Json]:
    done = _helm(*options)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def _one(items: list[Json], kind: str) -> Json:
    (found,) = [item for item in items if item["kind"] == kind]
    return found


def _rights(items: list[Json]) -> list[Json]:
    """Return the roles that are about buffers, not about the Lease."""
    kinds = ("ClusterRole", "Role")
    return [item for item in items if item["kind"] in kinds and item["metadata"]["name"] != f"{NAME}-lease"]


def test_the_crd_is_the_one_of_the_repository() -> None:
    """It is kept when the chart is uninstalled, unless it is told otherwise."""
    source = yaml.safe_load((REPOSITORY / "crds" / "experiencebuffers.yaml").read_text())
    crd = _one(_render(), "CustomResourceDefinition")
    assert crd["spec"] == source["spec"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in _one(_render("--set", "crds.keep=false"), "CustomResourceDefinition")["metadata"]
    kinds = [item["kind"] for item in _render("--set", "crds.install=false")]
    assert "CustomResourceDefinition" not in kinds


def test_rights_end_at_the_namespaces() -> None:
    """Cluster-wide rights without namespaces, none with them."""
    assert [item["kind"] for item in _rights(_render())] == ["ClusterRole"]
    narrow = _render("--set", "watchNamespaces={a,b}")
    kinds = [item["kind"] for item in narrow]
    assert "ClusterRole" not in kinds
    assert "ClusterRoleBinding" not in kinds
    assert [item["metadata"]["namespace"] for item in _rights(narrow)] == ["a", "b"]


@pytest.mark.parametrize("kind", ["ClusterRole", "Role"])
def test_secrets_can_be_neither_listed_nor_changed(kind: str) -> None:
    """And what holds data cannot be deleted: that is the garbage collector's, and happens with the buffer."""
    options = ["--set", "watchNamespaces={a}"] if kind == "Role" else []
    (role,) = _rights(_render(*options))
    rules = role["rules"]
    assert role["kind"] == kind
    (secrets,) = [rule for rule in rules if "secrets" in rule["resources"]]
    assert secrets["verbs"] == ["get", "create"]
    deletable = set()
    for rule in rules:
        assert not {"*", "deletecollection", "escalate", "bind", "impersonate"} & set(rule["verbs"])
        assert "*" not in rule["resources"]
        deletable |= set(rule["resources"]) if "delete" in rule["verbs"] else set()
    assert deletable == {"statefulsets", "networkpolicies", "poddisruptionbudgets", "podmonitors"}


@pytest.mark.parametrize("kind", ["ClusterRole", "Role"])
def test_what_is_watched_may_be_listed(kind: str) -> None:
    """In both modes; a watch that is refused would be repeated for ever."""
    options = ["--set", "watchNamespaces={a}"] if kind == "Role" else []
    (role,) = _rights(_render(*options))
    rules = role["rules"]
    assert role["kind"] == kind
    for watched in (BUFFER, *WATCHED):
        group = watched.api_version.rpartition("/")[0]
        verbs = {
            verb
            for rule in rules
            if group in rule["apiGroups"] and watched.plural in rule["resources"]
            for verb in rule["verbs"]
        }
        assert {"get", "list", "watch"} <= verbs, watched


def test_network_policies_let_the_operator_of_the_chart_in() -> None:
    """They know it by a label of its pods, whatever the release is called."""
    pod = _one(_render(), "Deployment")["spec"]["template"]
    assert OPERATOR_LABELS.items() <= pod["metadata"]["labels"].items()


def test_the_operator_can_grant_what_rebuilds_need() -> None:
    """The API server lets nobody make a Role with more rights than their own."""
    rules = _one(_render(), "ClusterRole")["rules"]
    (rule,) = [rule for rule in rules if "configmaps" in rule["resources"]]
    assert {"get", "patch", "update"} <= set(rule["verbs"])


def test_each_operator_asks_for_the_one_lease_it_may_have() -> None:
    """In its own namespace, whatever it watches; of Leases it may do no more than that."""
    items = _render("--set", "operator.replicas=2", "--set", "operator.leaseSeconds=20", "--set", "watchNamespaces={a}")
    (role,) = [item for item in items if item["kind"] == "Role" and item["metadata"]["name"] == f"{NAME}-lease"]
    assert role["metadata"]["namespace"] == "system"
    create, rest = role["rules"]
    assert (create["verbs"], rest["verbs"], rest["resourceNames"]) == (["create"], ["get", "patch"], [NAME])
    deployment = _one(items, "Deployment")["spec"]
    assert deployment["replicas"] == 2
    pod = deployment["template"]["spec"]
    assert pod["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"
    settings = load_settings([], {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]})
    assert (settings.lease_namespace, settings.lease_name, settings.lease_duration_s) == ("system", NAME, 20.0)


def test_the_deployment_is_one_restricted_pod_at_a_time() -> None:
    """Its settings are such as the operator reads; an upgrade never starts one beside another."""
    deployment = _one(_render("--set-string", "image.tag=7", "--set", "watchNamespaces={a,b}"), "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["rollingUpdate"]["maxSurge"]) == (1, 0)
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    settings = load_settings([], environment)
    assert (settings.image, settings.watched) == ("experience-buffer:7", ("a", "b"))
    assert settings.port == container["ports"][0]["containerPort"]


def test_a_digest_wins_over_a_tag() -> None:
    """For those who pin."""
    digest = f"sha256:{'a' * 64}"
    deployment = _one(_render("--set", f"image.digest={digest}"), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == f"experience-buffer@{digest}"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("imagee.tag=a", "imagee"),
        ("operator.wrokers=3", "wrokers"),
        ("operator.workers=0", "workers"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("crds.keep=maybe", "keep"),
    ],
)
def test_a_wrong_value_is_refused(value: str, named: str) -> None:
    """A typing error does not pass as a setting that does nothing."""
    done = _helm("--set", value)
    assert done.returncode != 0
    assert named in done.stderr


def test_every_value_is_in_the_schema() -> None:
    """Defaults are checked by Helm itself; here that none is missing."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())["properties"]

    def check(part: Json, known: Json) -> None:
        for name, value in part.items():
            assert name in known, name
            if isinstance(value, dict) and value and "properties" in known[name]:
                check(value, known[name]["properties"])

    check(values, schema)


def test_the_test_hook_changes_nothing() -> None:
    """It only asks the operator."""
    (hook,) = [item for item in _render() if "helm.sh/hook" in item["metadata"].get("annotations", {})]
    assert hook["kind"] == "Pod"
    assert hook["spec"]["automountServiceAccountToken"] is False
