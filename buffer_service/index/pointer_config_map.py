"""The pointer in a ConfigMap, moved by the rebuild Job through the Kubernetes API.

The swap is a replace that carries the resourceVersion that was read, so the API server does the comparison.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from kubernetes import client, config

from buffer_service.contract.names import POINTER_KEY
from buffer_service.contract.pointer import INITIAL, Pointer, decode_pointer, encode_pointer
from buffer_service.index.errors import PointerConflictError

_REQUEST_TIMEOUT_S = 10


class ConfigMapPointer:
    """A pointer in one ConfigMap; needs the verbs get and update on it."""

    def __init__(self, name: str, namespace: str) -> None:
        config.load_incluster_config()
        self._api = client.CoreV1Api()
        self._name = name
        self._namespace = namespace

    def read(self) -> Pointer:
        """See PointerStore."""
        return _pointer_in(self._read())

    def swap(self, expected: Pointer, replacement: Pointer) -> None:
        """See PointerStore."""
        found = self._read()
        if _pointer_in(found) != expected:
            raise PointerConflictError(
                f"the pointer is at revision {_pointer_in(found).revision}, not {expected.revision}"
            )
        found.data = {**(found.data or {}), POINTER_KEY: encode_pointer(replacement)}
        try:
            self._api.replace_namespaced_config_map(
                self._name, self._namespace, found, _request_timeout=_REQUEST_TIMEOUT_S
            )
        except client.ApiException as error:
            if error.status == HTTPStatus.CONFLICT:
                raise PointerConflictError("the pointer was moved while it was being swapped") from error
            raise

    def _read(self) -> Any:  # noqa: ANN401 - the client has no types
        return self._api.read_namespaced_config_map(self._name, self._namespace, _request_timeout=_REQUEST_TIMEOUT_S)


def _pointer_in(config_map: Any) -> Pointer:  # noqa: ANN401
    text = (config_map.data or {}).get(POINTER_KEY)
    return decode_pointer(text) if text else INITIAL
