"""Going back to an earlier generation under load: no request fails, nothing is lost, and it holds until one asks."""

from __future__ import annotations

import pytest
from buffer_operator.kube import labels

from tests.e2e.support.buffers import RESOURCE, Buffer, manifest
from tests.e2e.support.clients import start_load
from tests.e2e.support.kubectl import Kubectl, eventually
from tests.e2e.support.measured import Measured

FLIP_TO_SERVING_BAR_S = 5.0
EVERY = 150


def _annotate(buffer: Buffer, annotation: str, value: str) -> None:
    buffer.kubectl("annotate", "--overwrite", RESOURCE, buffer.name, f"{annotation}={value}")


def _rollback_result(buffer: Buffer, request: str) -> str | None:
    found = buffer.status().get("rollback", {})
    return found.get("result") if found.get("request") == request else None


@pytest.mark.timeout(280)
def test_back_by_hand_and_forward_by_a_rebuild(kubectl: Kubectl, image: str, measured: Measured) -> None:
    """Served within seconds; the writes of the meantime are found all the same; one that cannot be is refused."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest(every_operations=EVERY))
    buffer.wait_ready()
    first = start_load(buffer, image, rows=EVERY + 50)
    buffer.wait_generation(1)
    load = start_load(buffer, image, name="more", first=10_000, rows=EVERY + 50)
    before = buffer.wait_generation(2)
    eventually(lambda: "job" not in buffer.status()["rebuild"], "no rebuild to run", 60)
    before = buffer.status()["index"]
    target = before["previous"]["generation"]

    request = f"{target}@{before['revision']}"
    _annotate(buffer, labels.ROLLBACK_TO, request)
    eventually(lambda: _rollback_result(buffer, request) == "Done", "the rollback to be told", 20)
    index = eventually(lambda: _served(buffer, before["revision"] + 1), "the earlier generation to be served", 20)
    assert (index["generation"], buffer.pointer().reason) == (target, "rollback")
    measured.below("from a rollback's flip until it is served", index["flipToServingSeconds"], FLIP_TO_SERVING_BAR_S)
    assert buffer.condition("IndexCurrent")["reason"] == "RolledBack"
    assert buffer.condition("IndexCurrent")["status"] == "True"
    assert buffer.status()["rebuild"]["held"] is True
    pod = buffer.pod()["metadata"]["uid"]

    _annotate(buffer, labels.ROLLBACK_TO, request)
    stale = f"{before['generation']}@{index['revision']}"
    _annotate(buffer, labels.ROLLBACK_TO, stale)
    eventually(lambda: _rollback_result(buffer, stale) == "Refused", "the way forward to be refused", 20)
    assert "only a rebuild leads forward" in buffer.status()["rollback"]["message"]
    _annotate(buffer, labels.ROLLBACK_TO, request)

    _annotate(buffer, labels.REBUILD, "forward")
    after = buffer.wait_generation(before["generation"] + 1)
    assert after["generation"] > before["generation"], "a number is never used again"
    buffer.wait_condition("IndexCurrent", "True", 20, "Served")
    assert buffer.pod()["metadata"]["uid"] == pod
    for result in (first.stop(), load.stop()):
        assert (result["failures"], result["wrong"], result["lost"], result["not_found"]) == ([], [], [], [])


def _served(buffer: Buffer, revision: int) -> dict[str, object] | None:
    index: dict[str, object] = buffer.status()["index"]
    return index if index["revision"] == revision and "servedAt" in index else None
