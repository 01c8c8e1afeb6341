"""Access to the API server: the few verbs that the operator needs, on plain dictionaries.

The official client brings configuration, authentication and connections. Its models are left aside: they cost memory,
and server-side apply wants exactly the fields that we own. Owned by the main event loop; not thread-safe.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import aiohttp
import msgspec
from kubernetes.aio import client, config

from buffer_operator import metrics
from buffer_operator.errors import ChangedError, OperatorError, RefusedError, UnavailableError
from buffer_operator.kinds import BUFFER, Json, Kind, kind_of

FIELD_MANAGER: Final = "experience-buffer-operator"

_REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=20, sock_connect=5)
_WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(total=150, sock_connect=5, sock_read=70)
"""The API server sends a bookmark each minute: a stream that is silent for longer is dead."""
_WATCH_SERVER_TIMEOUT_S: Final = 120
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_SERVICE_ACCOUNT_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Listing(NamedTuple):
    """The objects of a collection and the version at which it was read."""

    items: list[Json]
    resource_version: str


class Cluster(Protocol):
    """What reconciling needs of an API server. Every method raises UnavailableError or RefusedError."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """Return the object, None where there is none."""

    async def list(self, kind: Kind, namespace: str | None, selector: str) -> list[Json]:
        """Return the objects that the label selector chooses."""

    async def create(self, manifest: Json) -> bool:
        """Create the object; returns False where one of that name is there already."""

    async def apply(self, manifest: Json) -> None:
        """Server-side apply: afterwards the fields of the manifest, and only those, are ours."""

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> None:
        """JSON merge patch; raises ChangedError where the object is gone or not at the patch's resourceVersion."""

    async def replace_status(self, resource: Json) -> None:
        """Write the status of a buffer; raises ChangedError where it is no longer at its resourceVersion."""


class ApiCluster:
    """The API server that the process's service account or KUBECONFIG names."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> ApiCluster:
        """Read the configuration; opens no connection yet."""
        configuration = client.Configuration()
        if _SERVICE_ACCOUNT_TOKEN.exists() and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        """Close every connection."""
        await self._api.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """See Cluster."""
        return await self._call("GET", kind.path(namespace, name), absent_ok=True)

    async def list(self, kind: Kind, namespace: str | None, selector: str) -> list[Json]:
        """See Cluster."""
        found = await self._call("GET", kind.path(namespace), {"labelSelector": selector} if selector else {})
        # Items of a list carry neither kind nor apiVersion.
        return [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in _items(found)]

    async def create(self, manifest: Json) -> bool:
        """See Cluster."""
        path = kind_of(manifest).path(manifest["metadata"]["namespace"])
        try:
            await self._call("POST", path, {"fieldManager": FIELD_MANAGER}, body=manifest)
        except ChangedError:
            return False
        return True

    async def apply(self, manifest: Json) -> None:
        """See Cluster."""
        metadata = manifest["metadata"]
        path = kind_of(manifest).path(metadata["namespace"], metadata["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        await self._call("PATCH", path, query, body=manifest, content_type="application/apply-patch+yaml")

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> None:
        """See Cluster."""
        path = kind.path(namespace, name)
        query = {"fieldManager": FIELD_MANAGER}
        await self._call("PATCH", path, query, body=patch, content_type="application/merge-patch+json")

    async def replace_status(self, resource: Json) -> None:
        """See Cluster."""
        metadata = resource["metadata"]
        path = BUFFER.path(metadata["namespace"], metadata["name"], "status")
        await self._call("PUT", path, {"fieldManager": FIELD_MANAGER}, body=resource)

    async def list_metadata(self, kind: Kind, namespace: str | None, selector: str) -> Listing:
        """Return the metadata of the objects, and where to start watching."""
        found = await self._call(
            "GET", kind.path(namespace), {"labelSelector": selector}, accept=_METADATA_ONLY.format("List")
        )
        return Listing(_items(found), (found or {}).get("metadata", {}).get("resourceVersion", ""))

    async def watch_metadata(
        self, kind: Kind, namespace: str | None, selector: str, resource_version: str
    ) -> AsyncIterator[Json]:
        """Yield watch events, bookmarks included, until the server ends the stream; raises as every method does.

        An ERROR event (410 Gone among them) raises: the caller lists again.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": selector,
            "resourceVersion": resource_version,
            "timeoutSeconds": str(_WATCH_SERVER_TIMEOUT_S),
        }
        response = await self._send(
            "GET", kind.path(namespace), query, accept=_METADATA_ONLY.format(""), timeout=_WATCH_TIMEOUT
        )
        async with response:
            if response.status != HTTPStatus.OK:
                raise _error(response.status, await response.read(), f"watch {kind.plural}")
            try:
                while line := await response.content.readline():
                    event = msgspec.json.decode(line)
                    if event["type"] == "ERROR":
                        raise UnavailableError(f"the watch of {kind.plural} ended: {event['object'].get('message')}")
                    yield event
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise UnavailableError(f"the watch of {kind.plural} broke: {error!r}") from error

    async def _call(
        self,
        verb: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Json | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        absent_ok: bool = False,
    ) -> Json | None:
        response = await self._send(verb, path, query, body=body, content_type=content_type, accept=accept)
        async with response:
            try:
                content = await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise UnavailableError(f"{verb} {path}: {error!r}") from error
        if response.status == HTTPStatus.NOT_FOUND and absent_ok:
            return None
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _error(response.status, content, f"{verb} {path}")
        decoded: Json = msgspec.json.decode(content)
        return decoded

    async def _send(
        self,
        verb: str,
        path: str,
        query: dict[str, str] | None,
        *,
        body: Json | None = None,
        content_type: str = "application/json",
        accept: str,
        timeout: aiohttp.ClientTimeout = _REQUEST_TIMEOUT,  # noqa: ASYNC109 - aiohttp's own, per socket as well
    ) -> aiohttp.ClientResponse:
        method, url, headers, content, _ = await self._api.param_serialize(
            verb,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            sent = await self._api.call_api(method, url, headers, content, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
            metrics.API_REQUESTS.labels(verb, "error").inc()
            raise UnavailableError(f"{verb} {path}: {error!r}") from error
        response: aiohttp.ClientResponse = sent.response
        metrics.API_REQUESTS.labels(verb, str(response.status)).inc()
        return response


def _items(found: Json | None) -> list[Json]:
    """Return the items of a list; an empty list of metadata comes as null."""
    items: list[Json] | None = (found or {}).get("items")
    return items or []


def _error(status: int, content: bytes, what: str) -> OperatorError:
    message = _message(content) or HTTPStatus(status).phrase
    if status in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return ChangedError(f"{what}: {message}")
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.UNAUTHORIZED) or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(f"{what}: {message}")
    return RefusedError(f"{what}: {message}")


def _message(content: bytes) -> str:
    try:
        decoded: Any = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return content[:200].decode(errors="replace")
    return str(decoded.get("message", "")) if isinstance(decoded, dict) else ""
