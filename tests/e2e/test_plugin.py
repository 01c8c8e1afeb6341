"""``kubectl xbuf``, found by kubectl on the PATH: what it shows, asks for and foresees, against a real buffer."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.clients.rows import experience_of
from tests.e2e.support.buffers import RESOURCE, Buffer, manifest
from tests.e2e.support.kubectl import CommandError, Json, Kubectl, command, eventually

_REPOSITORY = Path(__file__).parents[2]
_EVERY = 20_000
WIDTH = 100

Xbuf = Callable[..., str]

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("operator")]


@pytest.fixture
def xbuf(kubectl: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Xbuf:
    """Return ``kubectl xbuf`` of this checkout in the test's namespace."""
    script = tmp_path / "bin" / "kubectl-xbuf"
    script.parent.mkdir()
    paths = os.pathsep.join((str(_REPOSITORY), str(_REPOSITORY / "operator")))
    script.write_text(f'#!/bin/sh\nPYTHONPATH={paths} exec {sys.executable} -m buffer_operator.plugin.main "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")

    def run(*arguments: str, stdin: str | None = None) -> str:
        return command("kubectl", "xbuf", *arguments, "--namespace", kubectl.namespace, stdin=stdin)

    return run


@pytest.fixture
def buffer(kubectl: Kubectl) -> Buffer:
    """Return a buffer with a few rows and no index."""
    found = Buffer(kubectl)
    kubectl.apply(_spec())
    found.wait_ready()
    with found.client() as client:
        client.append([experience_of(row) for row in range(120)])
    return found


def _spec(**changed: object) -> Json:
    return manifest(every_operations=_EVERY, **changed)


def test_rebuild_rollback_and_status(buffer: Buffer, xbuf: Xbuf) -> None:
    """What was asked for is there when the command returns, and the status shows it on a narrow screen."""
    assert "generation 1 is served" in xbuf("rebuild", "demo", "--wait")
    assert buffer.status()["index"]["generation"] == 1
    assert "generation 2 is served" in xbuf("rebuild", "demo", "--wait")
    text = xbuf("status", "demo")
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    for shown in ("demo: Ready", "generation 2 at revision 2", "can be gone back to: 1", "Manual", "data-demo-0"):
        assert shown in text
    for condition in buffer.status()["conditions"]:
        assert condition["type"] in text
        assert condition["reason"] in text

    assert "generation 1 is served again" in xbuf("rollback", "demo")
    assert buffer.pointer().generation == 1
    found = json.loads(xbuf("status", "demo", "-o", "json"))
    assert (found["name"], found["status"]["rollback"]["result"]) == ("demo", "Done")
    assert "generation 3 is served" in xbuf("rebuild", "demo", "--wait")
    with pytest.raises(CommandError, match="Generation 9 cannot be gone back to; those that can: 2, 1"):
        xbuf("rollback", "demo", "--to", "9")
    assert "generation 1 is served again" in xbuf("rollback", "demo", "--to", "1")
    with pytest.raises(CommandError, match="no earlier generation"):
        xbuf("rollback", "demo")
    shown = buffer.kubectl("get", RESOURCE, "demo", "--show-managed-fields", "--output", "json")
    assert "kubectl-xbuf" in {entry["manager"] for entry in json.loads(shown)["metadata"]["managedFields"]}


def test_the_plan_foresees_what_applying_does(buffer: Buffer, xbuf: Xbuf) -> None:
    """No restart where none is foreseen, a restart where one is, and nothing is changed by looking."""
    before = (buffer.resource()["metadata"]["generation"], buffer.pod()["metadata"]["uid"])
    gentle = _spec(rebuild={"everyOperations": 500, "deltaRows": 400})
    assert "No pod would be restarted" in xbuf("plan", "-f", "-", stdin=json.dumps(gentle))
    harsh = _spec(capacity=200_000)
    foreseen = json.loads(xbuf("plan", "-f", "-", "-o", "json", stdin=json.dumps(harsh)))[0]
    assert [restart["pod"] for restart in foreseen["restarts"]] == ["demo-0"]
    assert {"field": "capacity", "before": "100000", "after": "200000", "effect": "restarts demo-0"} in foreseen[
        "fields"
    ]
    assert (buffer.resource()["metadata"]["generation"], buffer.pod()["metadata"]["uid"]) == before

    buffer.kubectl.apply(gentle)
    eventually(lambda: _observed(buffer), "the change to be looked at", 20)
    assert buffer.pod()["metadata"]["uid"] == before[1]
    buffer.kubectl.apply(_spec(capacity=200_000))
    eventually(lambda: _pod_uid(buffer) not in (before[1], ""), "another pod", 60)
    buffer.wait_ready()


def test_pause_shows_what_would_change(buffer: Buffer, xbuf: Xbuf) -> None:
    """Until it is over nothing is applied, and the status says who paused it and what waits."""
    pod = buffer.pod()["metadata"]["uid"]
    xbuf("pause", "demo", "--reason", "a look at the numbers")
    buffer.kubectl.apply(_spec(capacity=300_000))
    buffer.wait_condition("Paused", "True", 20, "ChangesPending")
    text = " ".join(xbuf("status", "demo").split())
    assert "a look at the numbers" in text
    assert "restart demo-0" in text
    assert buffer.pod()["metadata"]["uid"] == pod
    with pytest.raises(CommandError, match="is paused"):
        xbuf("rollback", "demo")
    xbuf("unpause", "demo")
    eventually(lambda: _pod_uid(buffer) not in (pod, ""), "another pod", 60)


def test_suspend_and_resume(buffer: Buffer, xbuf: Xbuf) -> None:
    """The pod goes and comes back; what it held is there."""
    xbuf("suspend", "demo")
    eventually(lambda: buffer.kubectl.get("pod", buffer.pod_name) is None, "the pod to be gone", 60)
    assert "suspended already" in xbuf("suspend", "demo")
    assert "Suspended: kubectl xbuf resume" in xbuf("status", "demo")
    xbuf("resume", "demo")
    buffer.wait_ready()
    eventually(lambda: buffer.status().get("records") == 120, "the experiences to be back", 20)


def test_errors_are_one_sentence(kubectl: Kubectl, xbuf: Xbuf, tmp_path: Path) -> None:
    """Unknown buffer, no right, no cluster, files that cannot be used."""
    del kubectl
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [")
    broken = _spec(embedding={"dimension": 0})
    for arguments, stdin, words in (
        (("status", "nobody"), None, "There is no ExperienceBuffer nobody"),
        (("rebuild", "demo", "--as", "stranger"), None, "You (stranger) have no right to get experiencebuffers"),
        (("status", "demo", "--server-of-nobody"), None, "unrecognized arguments"),
        (("plan", "-f", str(tmp_path / "none.yaml")), None, "There is no file"),
        (("plan", "-f", str(bad)), None, "rror parsing"),
        (("plan", "-f", "-"), json.dumps(broken), "spec.embedding.dimension"),
        (
            ("plan", "-f", "-"),
            '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}',
            "no ExperienceBuffer",
        ),
    ):
        with pytest.raises(CommandError) as caught:
            xbuf(*arguments, stdin=stdin)
        said = str(caught.value)
        assert words in said
        assert "Traceback" not in said


def _observed(buffer: Buffer) -> bool:
    resource = buffer.resource()
    return bool(resource["status"]["observedGeneration"] == resource["metadata"]["generation"])


def _pod_uid(buffer: Buffer) -> str:
    pod = buffer.kubectl.get("pod", buffer.pod_name)
    return str(pod["metadata"]["uid"]) if pod else ""
