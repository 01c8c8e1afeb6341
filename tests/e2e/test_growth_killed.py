"""A volume grows while the operator dies after each single write: the pod and the volume live through all of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import start_load
from tests.e2e.support.kubectl import Kubectl
from tests.e2e.support.local_operator import LocalOperator, running
from tests.e2e.support.measured import Measured
from tests.e2e.support.volumes import Volume, expandable_class, owners_of
from tests.helpers.api_proxy import ApiProxy, Write
from tests.helpers.waiting import wait_until

OPTIONS = {"poll_s": 0.5, "poll_max_s": 1, "backoff_max_s": 2}
LOOKS = 6
"""Visits without a write after which nothing is left to be done."""


@pytest.fixture
def storage_class() -> Iterator[str]:
    """Yield a StorageClass whose claims may grow."""
    with expandable_class() as name:
        yield name


@pytest.mark.timeout(300)
def test_growth_survives_an_operator_that_is_killed_after_every_single_write(
    tmp_path: Path, kubectl: Kubectl, nobody_else: str, storage_class: str, measured: Measured
) -> None:
    """Another StatefulSet, the same pod with one owner, the same claim; no request failed meanwhile."""
    buffer, volume = Buffer(kubectl), Volume(Buffer(kubectl))
    persistence = {"size": "1Gi", "storageClassName": storage_class, "whenDeleted": "Delete"}
    with ApiProxy() as proxy:
        config = proxy.kubeconfig(tmp_path / "kubeconfig")
        options = OPTIONS | {"namespaces": kubectl.namespace}
        with running(tmp_path, nobody_else, config, **options):
            kubectl.apply(manifest(persistence=persistence))
            buffer.wait_ready()
        pod, claim = buffer.pod()["metadata"]["uid"], volume.claim()["metadata"]["uid"]
        load = start_load(buffer, nobody_else, rows=200)
        load.wait_progress("acknowledged", 200)

        buffer.patch({"persistence": persistence | {"size": "2Gi"}})
        alive: list[LocalOperator] = []
        proxy.on_write = lambda write: _kill(alive[-1], write)
        before, lives = len(proxy.writes), 0
        while True:
            with running(tmp_path, nobody_else, config, **options) as operator:
                alive.append(operator)
                wait_until(lambda: operator.ended() or _has_looked(operator), "a write or several looks", 60, 0.2)
                if not operator.ended():
                    break
                lives += 1
    measured.note(f"growth, killed after every single write: {lives} lives of one write each, then at rest")
    assert lives == len(proxy.writes) - before >= 6
    stateful_set = kubectl.existing("statefulset", "demo")
    (template,) = stateful_set["spec"]["volumeClaimTemplates"]
    assert (volume.requested(), template["spec"]["resources"]["requests"]["storage"]) == ("2Gi", "2Gi")
    assert (buffer.pod()["metadata"]["uid"], volume.claim()["metadata"]["uid"]) == (pod, claim)
    assert owners_of(buffer.pod()) == [stateful_set["metadata"]["uid"]]
    assert owners_of(volume.claim()) == [buffer.resource()["metadata"]["uid"]]
    result = load.stop()
    assert (result["failures"], result["wrong"], result["lost"], result["not_found"]) == ([], [], [], [])


def _kill(operator: LocalOperator, write: Write) -> None:
    del write
    operator.process.send_signal(signal.SIGKILL)


def _has_looked(operator: LocalOperator) -> bool:
    try:
        return operator.metric("xbuf_operator_reconciles_total") >= LOOKS
    except OSError:
        return False
