"""Access to the API server: the few verbs that the operator needs, on plain dictionaries.

The official client brings configuration, authentication and connections. Its models are left aside: they cost memory,
and server-side apply wants exactly the fields that we own. Writes pass a fence. Owned by the main event loop; not
thread-safe.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import aiohttp
import msgspec
from kubernetes.aio import client, config

from buffer_operator import metrics
from buffer_operator.errors import ChangedError, OperatorError, RefusedError, UnavailableError
from buffer_operator.kube.fence import Fence, FencedConnector, no_fence
from buffer_operator.kube.kinds import BUFFER, POD, Json, Kind, kind_of

FIELD_MANAGER: Final = "experience-buffer-operator"

_REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=20, sock_connect=5)
_WATCH_SILENCE_S: Final = 70.0
"""The API server sends a bookmark each minute: a watch that is silent for longer is dead."""
_WATCH_SERVER_TIMEOUT_S: Final = 120
_RETRY_AFTER_MAX_S: Final = 60.0
_UNTYPED_PATCH: Final = "failed to create typed patch object"
"""How an API server answers a field that it does not know: with status 500, though it is no fault of its own."""
_SERVICE_ACCOUNT_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Listing(NamedTuple):
    """The objects of a collection and the version at which it was read."""

    items: list[Json]
    resource_version: str


class Reader(Protocol):
    """What a look needs. Every method raises UnavailableError or RefusedError."""

    async def knows(self, kind: Kind) -> bool:
        """Whether the API server serves objects of this kind; what was found once holds for the process."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """Return the object, None where there is none."""

    async def list(self, kind: Kind, namespace: str | None, selector: str) -> list[Json]:
        """Return the objects that the label selector chooses."""


class Cluster(Reader, Protocol):
    """What reconciling needs of an API server. Writes also raise NotLeadingError, and then were not sent."""

    async def create(self, manifest: Json) -> bool:
        """Create the object; returns False where one of that name is there already."""

    async def apply(self, manifest: Json) -> None:
        """Server-side apply: afterwards the fields of the manifest, and only those, are ours."""

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> None:
        """JSON merge patch; raises ChangedError where the object is gone or not at the patch's resourceVersion."""

    async def remove(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete the object; raises ChangedError where it is gone or another one."""

    async def orphan(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete the object but nothing that it owns; raises ChangedError where it is gone or another one."""

    async def evict(self, namespace: str, pod: str, uid: str) -> None:
        """Have a pod end if disruption budgets allow it; raises ChangedError where it is gone or another one."""

    async def replace_status(self, resource: Json) -> None:
        """Write the status of a buffer; raises ChangedError where it is no longer at its resourceVersion."""


class ApiCluster:
    """The API server that the process's service account or KUBECONFIG names."""

    def __init__(
        self,
        api: client.ApiClient,
        fence: Fence = no_fence,
        watch_silence_s: float = _WATCH_SILENCE_S,
    ) -> None:
        self._api = api
        self._known: dict[Kind, bool] = {}
        self._connector = FencedConnector(fence, api.rest_client.ssl_context)
        api.configuration.client_session_kwargs = {"connector": self._connector}
        self._watch_timeout = aiohttp.ClientTimeout(
            total=_WATCH_SERVER_TIMEOUT_S + watch_silence_s, sock_connect=5, sock_read=watch_silence_s
        )

    @classmethod
    async def connect(cls, fence: Fence = no_fence, watch_silence_s: float = _WATCH_SILENCE_S) -> ApiCluster:
        """Read the configuration; opens no connection yet.

        ``fence`` is called before each write and raises NotLeadingError where it must not be sent; a watch breaks when
        nothing has come for ``watch_silence_s``.
        """
        configuration = client.Configuration()
        if _SERVICE_ACCOUNT_TOKEN.exists() and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
        return cls(client.ApiClient(configuration), fence, watch_silence_s)

    async def close(self) -> None:
        """Close every connection."""
        await self._api.close()
        await self._connector.close()

    async def knows(self, kind: Kind) -> bool:
        """See Reader."""
        if kind not in self._known:
            found = await self._call("GET", f"/apis/{kind.api_version}", absent_ok=True) or {}
            self._known[kind] = any(served["name"] == kind.plural for served in found.get("resources", []))
        return self._known[kind]

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """See Cluster."""
        return await self._call("GET", kind.path(namespace, name), absent_ok=True)

    async def list(self, kind: Kind, namespace: str | None, selector: str) -> list[Json]:
        """See Cluster."""
        return (await self.listing(kind, namespace, selector)).items

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

    async def remove(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """See Cluster."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        await self._call("DELETE", kind.path(namespace, name), body=options)

    async def orphan(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """See Cluster."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        await self._call("DELETE", kind.path(namespace, name), body=options | {"propagationPolicy": "Orphan"})

    async def evict(self, namespace: str, pod: str, uid: str) -> None:
        """See Cluster."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        await self._call("POST", POD.path(namespace, pod, "eviction"), body=eviction)

    async def replace_status(self, resource: Json) -> None:
        """See Cluster."""
        metadata = resource["metadata"]
        path = BUFFER.path(metadata["namespace"], metadata["name"], "status")
        await self._call("PUT", path, {"fieldManager": FIELD_MANAGER}, body=resource)

    async def listing(self, kind: Kind, namespace: str | None, selector: str) -> Listing:
        """Return the objects that the label selector chooses, and where to start watching; raises as ``list`` does."""
        found = await self._call("GET", kind.path(namespace), {"labelSelector": selector} if selector else {})
        # Items of a list carry neither kind nor apiVersion.
        items = [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in _items(found)]
        return Listing(items, (found or {}).get("metadata", {}).get("resourceVersion", ""))

    async def watch(
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
        response = await self._send("GET", kind.path(namespace), query, timeout=self._watch_timeout)
        async with response:
            if response.status != HTTPStatus.OK:
                raise _error(response, await response.read(), f"watch {kind.plural}")
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
        absent_ok: bool = False,
    ) -> Json | None:
        response = await self._send(verb, path, query, body=body, content_type=content_type)
        async with response:
            try:
                content = await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise UnavailableError(f"{verb} {path}: {error!r}") from error
        if response.status == HTTPStatus.NOT_FOUND and absent_ok:
            return None
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _error(response, content, f"{verb} {path}")
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
        timeout: aiohttp.ClientTimeout = _REQUEST_TIMEOUT,  # noqa: ASYNC109 - aiohttp's own, per socket as well
    ) -> aiohttp.ClientResponse:
        method, url, headers, content, _ = await self._api.param_serialize(
            verb,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
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


def _error(response: aiohttp.ClientResponse, content: bytes, what: str) -> OperatorError:
    status = response.status
    message = _message(content) or HTTPStatus(status).phrase
    if status in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return ChangedError(f"{what}: {message}")
    if message.startswith(_UNTYPED_PATCH):
        return RefusedError(f"{what}: {message}")
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.UNAUTHORIZED) or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(f"{what}: {message}", _retry_after_s(response.headers))
    return RefusedError(f"{what}: {message}")


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Return how long the server asks to wait; API servers send seconds, never a date."""
    text = headers.get("Retry-After", "")
    return min(_RETRY_AFTER_MAX_S, float(text)) if text.isdecimal() else 0.0


def _message(content: bytes) -> str:
    try:
        decoded: Any = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return content[:200].decode(errors="replace")
    return str(decoded.get("message", "")) if isinstance(decoded, dict) else ""
