"""The chart: lint, test, upgrade, uninstall, and an operator that serves one namespace alone.

The tests of this file share one buffer that has to live through all of it, and run in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from buffer_client import BufferClient
from tests.e2e.support.buffers import RESOURCE, Buffer, manifest
from tests.e2e.support.kubectl import CommandError, Json, Kubectl, command, eventually
from tests.e2e.support.namespaces import Namespaces
from tests.e2e.support.operator import Operator

CHART = str(Path(__file__).parent.parent.parent / "helm" / "experience-buffer-operator")
CRD = "customresourcedefinition/experiencebuffers.pixelis.dev"
NAMESPACED = "namespaced"
VISITS = 3


@dataclass
class Release:
    """The release of the operator, with the values that it was installed with."""

    operator: Operator
    values: Json

    def install(self, *options: str) -> None:
        """Install or upgrade it to the chart of this checkout."""
        place = ("--install", self.operator.release, CHART, "--namespace", self.operator.kubectl.namespace)
        _helm("upgrade", *place, "--reset-values", *options, values=self.values)
        self.operator.wait_ready()


def _helm(verb: str, *arguments: str, values: Json) -> None:
    """Install or upgrade with these values, and wait until all is ready."""
    command("helm", verb, *arguments, "--wait", "--timeout", "90s", "--values", "-", stdin=json.dumps(values))


@pytest.fixture(scope="module")
def release(operator: Operator) -> Iterator[Release]:
    """Yield the release; at the end it is installed as it was."""
    place = ("--namespace", operator.kubectl.namespace)
    values = json.loads(command("helm", "get", "values", operator.release, *place, "--output", "json")) or {}
    found = Release(operator, values)
    yield found
    found.install()


@pytest.fixture(scope="module")
def buffer(namespaces: Namespaces, release: Release) -> Iterator[Buffer]:
    """Yield a buffer that serves."""
    del release
    made = Buffer(namespaces.make("helm"))
    made.kubectl.apply(manifest())
    made.wait_ready()
    yield made
    namespaces.remove(made.kubectl)


def test_the_chart_passes_lint() -> None:
    """With warnings as errors."""
    command("helm", "lint", "--strict", CHART)


def test_the_release_passes_its_own_test(release: Release) -> None:
    """``helm test`` asks the operator from a pod."""
    place = ("--namespace", release.operator.kubectl.namespace)
    assert "Phase:          Succeeded" in command("helm", "test", release.operator.release, *place)


@pytest.mark.timeout(180)
def test_an_upgrade_of_the_operator_restarts_no_data_pod(release: Release, buffer: Buffer) -> None:
    """The operator's pod is another one, the buffer's is the same after several visits by the new operator."""
    before, data_pod = release.operator.pods()[0]["metadata"]["uid"], buffer.pod()["metadata"]["uid"]
    release.install("--set", "operator.logLevel=warning", "--set-string", "podAnnotations.upgraded=yes")
    assert release.operator.pods()[0]["metadata"]["uid"] != before
    _wait_for_visits(release.operator)
    assert buffer.pod()["metadata"]["uid"] == data_pod
    assert buffer.pod()["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.timeout(300)
def test_without_the_operator_buffers_live_on_and_another_may_serve_one_namespace(
    release: Release, buffer: Buffer, namespaces: Namespaces
) -> None:
    """After uninstall the CRD and the buffer stay; a release for one namespace serves that one and no other."""
    data_pod = buffer.pod()["metadata"]["uid"]
    mine, other = Buffer(namespaces.make("mine")), Buffer(namespaces.make("other"))
    command("helm", "uninstall", release.operator.release, "--namespace", release.operator.kubectl.namespace, "--wait")
    try:
        command("kubectl", "get", CRD)
        _check_serves(buffer, data_pod)
        _serve_one_namespace(release, mine, other)
        command("kubectl", "get", CRD)
        _check_serves(mine, mine.pod()["metadata"]["uid"])
    finally:
        release.install()
    other.wait_ready()
    _wait_for_visits(release.operator)
    _check_serves(buffer, data_pod)
    for one in (mine, other):
        namespaces.remove(one.kubectl)


def _serve_one_namespace(release: Release, mine: Buffer, other: Buffer) -> None:
    """Install an operator for the namespace of ``mine`` in that namespace, use it, and uninstall it."""
    image = {key: value for key, value in release.values.get("image", {}).items() if key != "digest"}
    values = {"image": image, "watchNamespaces": [mine.kubectl.namespace], "crds": {"install": False}}
    place = ("--namespace", mine.kubectl.namespace)
    _helm("install", NAMESPACED, CHART, *place, values=values)
    for one in (other, mine):
        one.kubectl.apply(manifest())
    mine.wait_ready()
    assert other.status() == {}
    assert other.kubectl.list("statefulsets,secrets,configmaps", other.selector) == []
    assert _may_not(mine, other)
    command("helm", "uninstall", NAMESPACED, *place, "--wait")
    assert mine.kubectl.get(RESOURCE, mine.name) is not None


def _may_not(mine: Buffer, other: Buffer) -> bool:
    """Whether the operator of one namespace has no rights in the other."""
    account = f"--as=system:serviceaccount:{mine.kubectl.namespace}:{NAMESPACED}-experience-buffer-operator"
    assert mine.kubectl("auth", "can-i", "get", "secrets", account).strip() == "yes"
    try:
        other.kubectl("auth", "can-i", "get", "secrets", account)
    except CommandError:
        return True
    return False


def _check_serves(buffer: Buffer, pod: str) -> None:
    """The same pod answers."""
    assert buffer.pod()["metadata"]["uid"] == pod
    with buffer.forwarded() as url, BufferClient(url, token=buffer.token("read")) as client:
        assert client.status().size == 0


def _wait_for_visits(operator: Operator) -> None:
    """Wait until this operator process has looked at each buffer several times."""
    every = Kubectl("default")("get", RESOURCE, "-A", "--output", "name").split()
    done = "xbuf_operator_reconciles_total"
    eventually(lambda: operator.metric(done, result="done") >= VISITS * len(every), "visits of the operator", 60)
