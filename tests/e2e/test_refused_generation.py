"""A generation that is damaged on the volume is pointed to: it is refused and taken back, and reads never stop."""

from __future__ import annotations

import json
import time

import pytest

from buffer_service.contract import names
from buffer_service.contract.pointer import Pointer, encode_pointer, successor
from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import start_load, start_script
from tests.e2e.support.kubectl import Kubectl, eventually
from tests.e2e.support.measured import Measured

DAMAGED = 7
ROLLED_BACK_BAR_S = 20.0


@pytest.mark.timeout(240)
def test_a_damaged_generation_is_taken_back_and_the_next_rebuild_heals(
    kubectl: Kubectl, image: str, measured: Measured
) -> None:
    """The condition says why, the pointer goes back, and a later generation has a number of its own."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    load = start_load(buffer, image, rows=400)
    load.wait_progress("acknowledged", 400)
    good = buffer.wait_generation(1)["generation"]

    pointed_at = _point_to_damage(buffer, image, good)
    refused = buffer.wait_condition("IndexCurrent", "False", ROLLED_BACK_BAR_S, "GenerationRefused")
    assert f"generation {DAMAGED}" in refused["message"]
    assert "SHA-256" in refused["message"]
    eventually(lambda: buffer.pointer().generation == good, "the pointer to go back", ROLLED_BACK_BAR_S)
    measured.below("from the flip to a damaged generation until it is taken back", time.time() - pointed_at, 20.0)
    assert buffer.pointer().reason == "rollback"
    eventually(lambda: buffer.status()["phase"] == "Degraded", "the phase Degraded", 20)

    more = start_load(buffer, image, name="more", first=10_000, rows=400)
    assert buffer.wait_generation(DAMAGED + 1)["generation"] == DAMAGED + 1
    buffer.wait_condition("IndexCurrent", "True", 20, "Served")
    more.wait_progress("acknowledged", 400)
    for result in (load.stop(), more.stop()):
        assert (result["failures"], result["wrong"], result["lost"], result["not_found"]) == ([], [], [], [])
        assert DAMAGED not in result["generations"]


def _point_to_damage(buffer: Buffer, image: str, good: int) -> float:
    """Put a damaged copy of a generation on the volume and point to it; returns when that was, in Unix time."""
    claim, node = f"data-{buffer.pod_name}", buffer.pod()["spec"]["nodeName"]
    damage = start_script(
        buffer.kubectl, image, "damage", "damage.py", str(good), str(DAMAGED), claim=claim, nodeName=node
    ).result()
    pointer = successor(
        buffer.pointer(),
        generation=DAMAGED,
        watermark=damage["watermark"],
        manifest_sha256=damage["sha256"],
        reason="rebuild",
        now=time.time(),
    )
    _move(buffer, pointer)
    return pointer.flipped_at


def _move(buffer: Buffer, pointer: Pointer) -> None:
    patch = json.dumps({"data": {names.POINTER_KEY: encode_pointer(pointer)}})
    buffer.kubectl("patch", "configmap", names.pointer_config_map(buffer.name), "--type=merge", "--patch", patch)
