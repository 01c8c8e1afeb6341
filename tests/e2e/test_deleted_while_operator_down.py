"""Nobody has to be there for a buffer to go: resources and namespaces are deleted while the operator is down."""

from __future__ import annotations

import pytest

from tests.e2e.support.buffers import RESOURCE, Buffer, manifest
from tests.e2e.support.kubectl import Kubectl, eventually
from tests.e2e.support.namespaces import Namespaces
from tests.e2e.support.operator import Operator

NAMESPACE_BAR_S = 60.0


@pytest.mark.timeout(240)
def test_buffers_and_namespaces_are_deleted_without_an_operator(
    kubectl: Kubectl, namespaces: Namespaces, operator: Operator
) -> None:
    """One buffer is deleted, one goes with its namespace, one is made meanwhile and served afterwards."""
    deleted, in_namespace = Buffer(kubectl, "deleted"), Buffer(namespaces.make("leaving"), "leaving")
    for buffer in (deleted, in_namespace):
        buffer.kubectl.apply(manifest(buffer.name))
    for buffer in (deleted, in_namespace):
        buffer.wait_ready()
    meanwhile = Buffer(kubectl, "meanwhile")
    with operator.stopped():
        deleted.kubectl("delete", RESOURCE, deleted.name, "--timeout=20s")
        namespaces.remove(in_namespace.kubectl)
        kubectl.apply(manifest(meanwhile.name))
        kinds = "statefulsets,pods,services,configmaps,secrets,serviceaccounts,roles,rolebindings"
        eventually(lambda: not kubectl.list(kinds, deleted.selector), "all of the buffer to be gone", 60)
        kubectl("wait", "--for=delete", f"namespace/{in_namespace.kubectl.namespace}", f"--timeout={NAMESPACE_BAR_S}s")
    meanwhile.wait_ready()
    _check_calm(operator)


def _check_calm(operator: Operator) -> None:
    """The operator that came back lives, has failed at nothing, and said so."""
    assert operator.ask("/livez").strip() == "ok"
    assert operator.metric("xbuf_operator_reconciles_total", result="failed") == 0
    assert operator.metric("xbuf_operator_reconciles_total", result="done") > 0
    assert [line for line in operator.log().splitlines() if " ERROR " in line or "Traceback" in line] == []
    assert operator.pods()[0]["status"]["containerStatuses"][0]["restartCount"] == 0
