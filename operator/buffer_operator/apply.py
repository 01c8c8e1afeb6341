"""Carrying out the plan. Each action is one or two writes, each of which may be the last before a crash."""

from __future__ import annotations

import logging
import secrets
from typing import Final

from buffer_operator import metrics
from buffer_operator.builders.access import token_secret
from buffer_operator.builders.pointer import pointer_patch
from buffer_operator.builders.statefulset import claim_of_first_pod
from buffer_operator.errors import ExportFailedError, GrowthRefusedError, OperatorError, RefusedError
from buffer_operator.kube import labels
from buffer_operator.kube.cluster import Cluster
from buffer_operator.kube.kinds import CLAIM, CONFIG_MAP, POD, STATEFUL_SET, Json
from buffer_operator.observing.observed import Buffer, Observed
from buffer_operator.observing.pods import PodApi
from buffer_operator.planning.actions import (
    Action,
    Apply,
    CreatePointer,
    CreateTokens,
    EvictPod,
    GrowClaim,
    MovePointer,
    NoteContent,
    OrphanStatefulSet,
    OwnClaim,
    OwnPod,
    PokePod,
    Remove,
    StartRebuild,
    VolumeAction,
    describe,
)
from buffer_service.contract import names

log = logging.getLogger(__name__)

_TOKEN_BYTES: Final = 32


class Applier:
    """Carries actions out against one cluster."""

    def __init__(self, cluster: Cluster, pods: PodApi) -> None:
        self._cluster = cluster
        self._pods = pods

    async def apply(self, observed: Observed, action: Action) -> None:
        """Carry one action out; raises OperatorError."""
        log.info("%s/%s: %s", observed.buffer.namespace, observed.buffer.name, describe(action))
        metrics.ACTIONS.labels(type(action).__name__).inc()
        buffer = observed.buffer
        match action:
            case Apply(manifest):
                await self._cluster.apply(manifest)
            case CreatePointer(manifest):
                await self._cluster.create(manifest)
            case CreateTokens():
                tokens = {scope: secrets.token_urlsafe(_TOKEN_BYTES) for scope in names.TOKEN_SCOPES}
                await self._cluster.create(token_secret(buffer, tokens))
            case MovePointer(pointer, resource_version):
                patch = pointer_patch(pointer, resource_version)
                await self._cluster.patch(CONFIG_MAP, buffer.namespace, names.pointer_config_map(buffer.name), patch)
            case PokePod(pod, revision):
                await self._poke(buffer, pod, revision)
            case Remove(kind, name, uid):
                await self._cluster.remove(kind, buffer.namespace, name, uid)
            case StartRebuild():
                await self._rebuild(observed, action)
            case EvictPod() | GrowClaim() | NoteContent() | OrphanStatefulSet() | OwnClaim() | OwnPod():
                await self._apply_to_volume(buffer, action)

    async def _apply_to_volume(self, buffer: Buffer, action: VolumeAction) -> None:
        """Carry out what has to do with the volume and the pod that has it."""
        match action:
            case GrowClaim():
                await self._grow(buffer, action)
            case NoteContent(claim, content):
                patch = {"metadata": {"annotations": {labels.CONTENT: content}}}
                await self._cluster.patch(CLAIM, buffer.namespace, claim, patch)
            case OwnClaim(claim, resource_version, owners, _):
                owned: Json = {"resourceVersion": resource_version, "ownerReferences": list(owners)}
                await self._cluster.patch(CLAIM, buffer.namespace, claim, {"metadata": owned})
            case OwnPod(pod, resource_version, owners, _, template):
                metadata: Json = {"resourceVersion": resource_version, "ownerReferences": list(owners)}
                metadata["annotations"] = {labels.TEMPLATE: template or None}
                await self._cluster.patch(POD, buffer.namespace, pod, {"metadata": metadata})
            case OrphanStatefulSet(name, uid):
                await self._cluster.orphan(STATEFUL_SET, buffer.namespace, name, uid)
            case EvictPod(pod, uid, _):
                await self._cluster.evict(buffer.namespace, pod, uid)

    async def _poke(self, buffer: Buffer, pod: str, revision: int) -> None:
        patch = {"metadata": {"annotations": {labels.POINTER_REVISION: str(revision)}}}
        await self._cluster.patch(POD, buffer.namespace, pod, patch)

    async def _grow(self, buffer: Buffer, action: GrowClaim) -> None:
        """Size and time are one write: where it is cut off, neither is there."""
        patch = {
            "metadata": {"annotations": {labels.GROWN_AT: f"{action.at:.0f}"}},
            "spec": {"resources": {"requests": {"storage": action.size}}},
        }
        try:
            await self._cluster.patch(CLAIM, buffer.namespace, action.claim, patch)
        except RefusedError as error:
            raise GrowthRefusedError(action.size, str(error)) from error

    async def _rebuild(self, observed: Observed, action: StartRebuild) -> None:
        try:
            exported = await self._pods.export(action.address, observed.admin_token)
        except OperatorError as error:
            raise ExportFailedError(f"The export failed: {error}") from error
        if exported.rows == 0:
            raise ExportFailedError("There is no live experience to build an index from.")
        patch = {"metadata": {"annotations": {labels.LAST_GENERATION: str(action.generation)}}}
        namespace, claim = observed.buffer.namespace, claim_of_first_pod(observed.buffer.name)
        await self._cluster.patch(CLAIM, namespace, claim, patch)
        await self._cluster.create(action.job)
