"""Somebody edits or deletes the pointer: readers do not notice, and it is put right."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from buffer_service.contract import names
from buffer_service.contract.pointer import INITIAL, InvalidPointerError, encode_pointer
from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import start_load
from tests.e2e.support.kubectl import CommandError, Kubectl, eventually
from tests.e2e.support.measured import Measured

MENDED_BAR_S = 20.0


@pytest.mark.timeout(180)
def test_a_pointer_that_was_edited_or_deleted_is_put_right(kubectl: Kubectl, image: str, measured: Measured) -> None:
    """Nonsense, an older pointer, none at all: each time the generation that is served is pointed to again."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    load = start_load(buffer, image, rows=400)
    load.wait_progress("acknowledged", 400)
    generation = buffer.wait_generation(1)["generation"]
    damages: dict[str, Callable[[], object]] = {
        "nonsense": lambda: _write(buffer, "no pointer"),
        "set back to the first one": lambda: _write(buffer, encode_pointer(INITIAL)),
        "deleted": lambda: kubectl("delete", "configmap", names.pointer_config_map(buffer.name)),
    }
    for what, damage in damages.items():
        damage()
        seconds = measured.time(
            lambda: eventually(lambda: _generation(buffer) == generation, "the pointer to be put right", 60)
        )
        measured.below(f"pointer {what}: until it is put right", seconds, MENDED_BAR_S)
        buffer.wait_condition("IndexCurrent", "True", 30, "Served")
    result = load.stop()
    assert (result["failures"], result["wrong"], result["lost"], result["not_found"]) == ([], [], [], [])
    assert buffer.pod()["status"]["containerStatuses"][0]["restartCount"] == 0


def _write(buffer: Buffer, text: str) -> None:
    patch = json.dumps({"data": {names.POINTER_KEY: text}})
    buffer.kubectl("patch", "configmap", names.pointer_config_map(buffer.name), "--type=merge", "--patch", patch)


def _generation(buffer: Buffer) -> int:
    """Return the generation that is pointed to, -1 where there is no pointer."""
    try:
        return buffer.pointer().generation
    except (InvalidPointerError, CommandError, AssertionError):
        return -1
