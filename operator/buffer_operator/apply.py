"""Carrying out the plan. Each action is one or two writes, each of which may be the last before a crash."""

from __future__ import annotations

import logging
import secrets
from typing import Final

from buffer_operator import labels, metrics
from buffer_operator.actions import Action, Apply, CreatePointer, CreateTokens, MovePointer, PokePod, StartRebuild
from buffer_operator.builders.access import token_secret
from buffer_operator.builders.pointer import pointer_patch
from buffer_operator.builders.statefulset import claim_of_first_pod
from buffer_operator.cluster import Cluster
from buffer_operator.errors import ExportFailedError, OperatorError
from buffer_operator.kinds import CLAIM, CONFIG_MAP, POD
from buffer_operator.observed import Buffer, Observed
from buffer_operator.pods import PodApi
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
            case StartRebuild():
                await self._rebuild(observed, action)

    async def _poke(self, buffer: Buffer, pod: str, revision: int) -> None:
        patch = {"metadata": {"annotations": {labels.POINTER_REVISION: str(revision)}}}
        await self._cluster.patch(POD, buffer.namespace, pod, patch)

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


def describe(action: Action) -> str:
    """Return what an action does, in a few words, without secrets."""
    match action:
        case Apply(manifest):
            return f"apply {manifest['kind']} {manifest['metadata']['name']}"
        case CreatePointer():
            return "create the pointer"
        case CreateTokens():
            return "create the tokens"
        case MovePointer(pointer, _):
            return f"move the pointer to generation {pointer.generation}, revision {pointer.revision}"
        case PokePod(pod, revision):
            return f"poke {pod} for revision {revision}"
        case StartRebuild(_, generation, _):
            return f"export and rebuild generation {generation}"
