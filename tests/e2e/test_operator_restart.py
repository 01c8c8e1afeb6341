"""A new operator process: readers and writers do not notice, and where all is as it should be it writes nothing."""

from __future__ import annotations

import pytest

from tests.e2e.support.buffers import RESOURCE, Buffer, manifest
from tests.e2e.support.clients import start_load
from tests.e2e.support.kubectl import Kubectl, eventually
from tests.e2e.support.operator import Operator

ROWS = 400
VISITS = 4


@pytest.mark.timeout(240)
def test_a_restarted_operator_is_not_noticed_and_writes_nothing(
    kubectl: Kubectl, operator: Operator, image: str
) -> None:
    """No request fails during two restarts; after the second, several visits leave every object as it was."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    load = start_load(buffer, image, rows=ROWS)
    load.wait_progress("searches", 1)
    operator.restart()
    load.wait_progress("acknowledged", ROWS)
    buffer.wait_generation(1)
    buffer.wait_condition("Progressing", "False", 30, "Settled")
    eventually(lambda: buffer.status()["records"] == ROWS, "all records in the status", 20)

    before = _versions(kubectl, buffer)
    operator.restart()
    eventually(lambda: _visits(operator) >= VISITS * _buffers(kubectl), f"{VISITS} visits of each buffer", 60)
    assert _versions(kubectl, buffer) == before
    result = load.stop()
    assert (result["failures"], result["wrong"], result["lost"], result["not_found"]) == ([], [], [], [])


def _visits(operator: Operator) -> float:
    return operator.metric("xbuf_operator_reconciles_total", result="done")


def _buffers(kubectl: Kubectl) -> int:
    return len(kubectl("get", RESOURCE, "-A", "--output", "name").split())


def _versions(kubectl: Kubectl, buffer: Buffer) -> dict[str, str]:
    """Return the resourceVersion of the buffer and of everything that belongs to it."""
    kinds = (
        "statefulsets,pods,services,configmaps,secrets,serviceaccounts,roles,rolebindings,jobs,persistentvolumeclaims"
    )
    found = [buffer.resource(), *kubectl.list(kinds, buffer.selector)]
    return {f"{one['kind']} {one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in found}
