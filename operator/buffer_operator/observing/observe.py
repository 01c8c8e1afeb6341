"""One look at a buffer and all that belongs to it.

Jobs are read before the pointer: where a Job is seen to have finished, the pointer is seen as that Job left it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from buffer_operator.builders.statefulset import claim_of_first_pod
from buffer_operator.errors import UnavailableError
from buffer_operator.kube import labels
from buffer_operator.kube.cluster import Reader
from buffer_operator.kube.kinds import (
    BUFFER,
    CLAIM,
    CONFIG_MAP,
    JOB,
    POD,
    POD_MONITOR,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Json,
    Kind,
)
from buffer_operator.kube.labels import Component
from buffer_operator.observing import views
from buffer_operator.observing.observed import Buffer, Observed, PodView, is_controlled_by
from buffer_operator.observing.pods import PodApi
from buffer_operator.planning.optional import OPTIONAL, asked_for
from buffer_operator.resource.spec import InvalidSpecError, parse_spec
from buffer_service.contract import names
from buffer_service.contract.pointer import InvalidPointerError, Pointer, decode_pointer
from buffer_service.contract.status import ServiceStatus

_Key = tuple[Kind, str]


def children_of(name: str) -> tuple[_Key, ...]:
    """Return kind and name of every object that each buffer of this name has once, but for its Secret."""
    rebuild = names.rebuild_service_account(name)
    return (
        (SERVICE_ACCOUNT, name),
        (SERVICE_ACCOUNT, rebuild),
        (ROLE, rebuild),
        (ROLE_BINDING, rebuild),
        (CONFIG_MAP, names.pointer_config_map(name)),
        (SERVICE, names.headless_service(name)),
        (SERVICE, name),
        (STATEFUL_SET, name),
    )


async def observe(cluster: Reader, pods: PodApi, namespace: str, name: str) -> Observed | None:
    """Return what there is now, None where the buffer is gone; raises OperatorError."""
    selector = labels.selector_of(name)
    resource, jobs = await asyncio.gather(cluster.get(BUFFER, namespace, name), cluster.list(JOB, namespace, selector))
    if resource is None:
        return None
    buffer = _buffer(resource)
    raw_pods, claim, found, optional, secret = await asyncio.gather(
        cluster.list(POD, namespace, selector),
        cluster.get(CLAIM, namespace, claim_of_first_pod(name)),
        _found(cluster, namespace, children_of(name)),
        _optional_children(cluster, buffer),
        _secret(cluster, buffer),
    )
    children = found | optional | secret.child
    pointer, pointer_error = _pointer(children.get((CONFIG_MAP, names.pointer_config_map(name))))
    return Observed(
        buffer=buffer,
        children=children,
        pods=await _pods(pods, _of(raw_pods, Component.BUFFER), secret.admin_token, early=_asks_early(buffer)),
        jobs=views.job_views(jobs, _of(raw_pods, Component.REBUILD)),
        volume=views.volume_view(claim),
        pointer=pointer,
        pointer_error=pointer_error,
        admin_token=secret.admin_token,
        token_problem=secret.problem,
        knows_pod_monitors=await cluster.knows(POD_MONITOR),
    )


async def _found(cluster: Reader, namespace: str, keys: Sequence[_Key]) -> dict[_Key, Json]:
    found = await asyncio.gather(*(cluster.get(kind, namespace, name) for kind, name in keys))
    return {key: child for key, child in zip(keys, found, strict=True) if child is not None}


async def _optional_children(cluster: Reader, buffer: Buffer) -> dict[_Key, Json]:
    """Return those that are the buffer's, or in the way of one that it is to have; others of its name do no harm."""
    keys = [(kind, buffer.name) for kind in OPTIONAL if kind != POD_MONITOR or await cluster.knows(kind)]
    wanted = asked_for(buffer.spec) if buffer.spec else frozenset()
    found = await _found(cluster, buffer.namespace, keys)
    return {key: child for key, child in found.items() if key[0] in wanted or is_controlled_by(child, buffer.uid)}


class _Secret(NamedTuple):
    """The Secret with the tokens."""

    child: dict[_Key, Json]
    """The operator's own, without its data; empty where the user names one."""
    admin_token: str
    problem: str


async def _secret(cluster: Reader, buffer: Buffer) -> _Secret:
    given = buffer.spec.auth.secret_name if buffer.spec else None
    name = given or names.token_secret(buffer.name)
    secret = await cluster.get(SECRET, buffer.namespace, name)
    if secret is None:
        problem = f"Secret {name}, which auth.secretName names, does not exist: create it." if given else ""
        return _Secret({}, "", problem)
    token = _admin_token(secret)
    secret.pop("data", None)
    problem = "" if token else f"Secret {name} has no token under the key admin: add one."
    return _Secret({} if given else {(SECRET, name): secret}, token, problem)


def _asks_early(buffer: Buffer) -> bool:
    """Whether a pod is asked before it is ready: it may be waiting for a GPU, and knows why it has none."""
    gpu = buffer.spec.gpu if buffer.spec else None
    return gpu is not None and gpu.fallback == "Forbidden"


def _buffer(resource: Json) -> Buffer:
    metadata = resource["metadata"]
    try:
        spec, invalid = parse_spec(resource.get("spec", {})), ""
    except InvalidSpecError as error:
        spec, invalid = None, str(error)
    return Buffer(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        deleting="deletionTimestamp" in metadata,
        spec=spec,
        invalid=invalid,
        status=resource.get("status", {}),
        resource=resource,
    )


def _of(pods: Iterable[Json], component: Component) -> list[Json]:
    return [pod for pod in pods if pod["metadata"]["labels"].get(labels.COMPONENT) == component]


def _admin_token(secret: Json) -> str:
    try:
        return base64.b64decode(secret.get("data", {}).get("admin", ""), validate=True).decode().strip()
    except (binascii.Error, UnicodeError):
        return ""


def _pointer(config_map: Json | None) -> tuple[Pointer | None, str]:
    if config_map is None:
        return None, ""
    text = (config_map.get("data") or {}).get(names.POINTER_KEY)
    if text is None:
        return None, f"the ConfigMap has no key {names.POINTER_KEY}"
    try:
        return decode_pointer(text), ""
    except InvalidPointerError as error:
        return None, str(error)


async def _pods(api: PodApi, raw: list[Json], token: str, *, early: bool) -> tuple[PodView, ...]:
    views_ = sorted((views.pod_view(pod) for pod in raw), key=lambda pod: pod.name)
    answers = await asyncio.gather(*(_ask(api, pod, token, early=early) for pod in views_))
    return tuple(
        views.with_answer(pod, service, silence) for pod, (service, silence) in zip(views_, answers, strict=True)
    )


async def _ask(api: PodApi, pod: PodView, token: str, *, early: bool) -> tuple[ServiceStatus | None, str]:
    if not pod.ip or not (pod.ready or early):
        return None, ""
    if not token:
        return None, "there is no admin token to ask it with"
    try:
        return await api.status(pod.ip, token), ""
    except UnavailableError as error:
        return None, str(error) if pod.ready else ""
