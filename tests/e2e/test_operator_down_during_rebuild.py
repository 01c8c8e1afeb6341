"""The operator is away while a rebuild ends: readers do not notice, and it catches up when it is back."""

from __future__ import annotations

import pytest

from buffer_service.contract import names
from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import start_load
from tests.e2e.support.kubectl import Json, Kubectl, condition_of, eventually
from tests.e2e.support.measured import Measured
from tests.e2e.support.operator import Operator

CATCH_UP_BAR_S = 20.0
QUOTA = "no-more-pods"


@pytest.mark.timeout(240)
def test_the_operator_catches_up_with_a_rebuild_that_ended_without_it(
    kubectl: Kubectl, operator: Operator, image: str, measured: Measured
) -> None:
    """The Job moves the pointer alone; the operator then pokes the pod and reports the switch."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    load = start_load(buffer, image, rows=400)
    _let_no_pod_start(kubectl)
    job = names.rebuild_job(buffer.name, 1)
    eventually(lambda: kubectl.get("job", job), "the rebuild to begin", 60)
    with operator.stopped():
        kubectl("delete", "resourcequota", QUOTA)
        eventually(lambda: _is_complete(kubectl, job), "the rebuild to end", 90)
        assert buffer.pointer().generation == 1
        assert buffer.status()["index"]["generation"] == 0
    served = eventually(lambda: _served(buffer), "the operator to catch up", CATCH_UP_BAR_S)
    measured.note(f"operator back: generation 1 served {served['flipToServingSeconds']} s after its flip")
    buffer.wait_condition("IndexCurrent", "True", 10, "Served")
    buffer.wait_condition("RebuildSucceeded", "True", 10, "Rebuilt")
    load.wait_progress("switches", 1)
    result = load.stop()
    assert (result["failures"], result["wrong"], result["lost"], result["not_found"]) == ([], [], [], [])


def _let_no_pod_start(kubectl: Kubectl) -> None:
    """Hold the rebuild between its Job and its pod, with a quota that is used up."""
    hard = {"pods": str(len(kubectl.list("pods")))}
    kubectl.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": QUOTA}, "spec": {"hard": hard}})


def _is_complete(kubectl: Kubectl, job: str) -> bool:
    return condition_of(kubectl.existing("job", job), "Complete").get("status") == "True"


def _served(buffer: Buffer) -> Json | None:
    index: Json = buffer.status().get("index", {})
    return index if index.get("generation") == 1 and "servedAt" in index else None
