"""The pointer's ConfigMap: created by the operator, moved by rebuild Jobs and rollbacks, never applied."""

from __future__ import annotations

from buffer_operator.builders.metadata import manifest
from buffer_operator.kube.kinds import CONFIG_MAP, Json
from buffer_operator.observing.observed import Buffer
from buffer_service.contract import names
from buffer_service.contract.pointer import Pointer, encode_pointer


def pointer_config_map(buffer: Buffer, pointer: Pointer) -> Json:
    """Return the ConfigMap that points to a generation."""
    data = {names.POINTER_KEY: encode_pointer(pointer)}
    return manifest(CONFIG_MAP, buffer, names.pointer_config_map(buffer.name), data=data)


def pointer_patch(pointer: Pointer, resource_version: str) -> Json:
    """Return the merge patch that moves the pointer, if nobody has moved it since that version."""
    return {
        "metadata": {"resourceVersion": resource_version},
        "data": {names.POINTER_KEY: encode_pointer(pointer)},
    }
