"""One look at a buffer and all that belongs to it.

Jobs are read before the pointer: where a Job is seen to have finished, the pointer is seen as that Job left it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable

from buffer_operator import labels, views
from buffer_operator.builders.statefulset import claim_of_first_pod
from buffer_operator.cluster import Cluster
from buffer_operator.errors import UnavailableError
from buffer_operator.kinds import (
    BUFFER,
    CLAIM,
    CONFIG_MAP,
    JOB,
    POD,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Json,
    Kind,
)
from buffer_operator.labels import Component
from buffer_operator.observed import Buffer, Observed, PodView
from buffer_operator.pods import PodApi
from buffer_operator.spec import InvalidSpecError, parse_spec
from buffer_service.contract import names
from buffer_service.contract.pointer import InvalidPointerError, Pointer, decode_pointer
from buffer_service.contract.status import ServiceStatus


def children_of(name: str) -> tuple[tuple[Kind, str], ...]:
    """Return kind and name of every object that a buffer of this name has once."""
    rebuild = names.rebuild_service_account(name)
    return (
        (SERVICE_ACCOUNT, name),
        (SERVICE_ACCOUNT, rebuild),
        (ROLE, rebuild),
        (ROLE_BINDING, rebuild),
        (SECRET, names.token_secret(name)),
        (CONFIG_MAP, names.pointer_config_map(name)),
        (SERVICE, names.headless_service(name)),
        (SERVICE, name),
        (STATEFUL_SET, name),
    )


async def observe(cluster: Cluster, pods: PodApi, namespace: str, name: str) -> Observed | None:
    """Return what there is now, None where the buffer is gone; raises OperatorError."""
    resource = await cluster.get(BUFFER, namespace, name)
    if resource is None:
        return None
    selector = labels.selector_of(name)
    jobs = await cluster.list(JOB, namespace, selector)
    keys = children_of(name)
    raw_pods = await cluster.list(POD, namespace, selector)
    claim = await cluster.get(CLAIM, namespace, claim_of_first_pod(name))
    found = await asyncio.gather(*(cluster.get(kind, namespace, child) for kind, child in keys))
    children = {key: child for key, child in zip(keys, found, strict=True) if child is not None}
    secret = children.get((SECRET, names.token_secret(name)), {})
    token = _admin_token(secret)
    secret.pop("data", None)
    pointer, pointer_error = _pointer(children.get((CONFIG_MAP, names.pointer_config_map(name))))
    return Observed(
        buffer=_buffer(resource),
        children=children,
        pods=await _pods(pods, _of(raw_pods, Component.BUFFER), token),
        jobs=views.job_views(jobs, _of(raw_pods, Component.REBUILD)),
        last_generation=_last_generation(claim),
        pointer=pointer,
        pointer_error=pointer_error,
        admin_token=token,
    )


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


def _last_generation(claim: Json | None) -> int:
    text: str = (claim or {}).get("metadata", {}).get("annotations", {}).get(labels.LAST_GENERATION, "")
    return int(text) if text.isdecimal() else 0


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


async def _pods(api: PodApi, raw: list[Json], token: str) -> tuple[PodView, ...]:
    views_ = sorted((views.pod_view(pod) for pod in raw), key=lambda pod: pod.name)
    answers = await asyncio.gather(*(_ask(api, pod, token) for pod in views_))
    return tuple(
        views.with_answer(pod, service, silence) for pod, (service, silence) in zip(views_, answers, strict=True)
    )


async def _ask(api: PodApi, pod: PodView, token: str) -> tuple[ServiceStatus | None, str]:
    if not pod.ready or not pod.ip:
        return None, ""
    if not token:
        return None, "there is no admin token to ask it with"
    try:
        return await api.status(pod.ip, token), ""
    except UnavailableError as error:
        return None, str(error)
