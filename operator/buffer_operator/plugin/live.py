"""The objects of one buffer as kubectl finds them, in the shape in which the operator reads them.

Everything is fetched at once and then looked at as often as needed. Secrets are never read: that of a buffer counts as
there where its StatefulSet is. Pods are not asked anything, so what depends on their word is not planned.
"""

from __future__ import annotations

from buffer_operator.builders.statefulset import claim_of_first_pod
from buffer_operator.errors import UnavailableError
from buffer_operator.kube import labels
from buffer_operator.kube.kinds import (
    BUFFER,
    CLAIM,
    DISRUPTION_BUDGET,
    JOB,
    NETWORK_POLICY,
    POD,
    POD_MONITOR,
    SECRET,
    STATEFUL_SET,
    Json,
    Kind,
)
from buffer_operator.observing.observe import children_of, observe
from buffer_operator.observing.observed import Observed
from buffer_operator.observing.pods import Exported
from buffer_operator.plugin.kubectl import Kubectl
from buffer_service.contract.status import ServiceStatus

_SILENCE = "the plugin asks no pod"


class Live:
    """What there is of one buffer; a ``Reader`` and a ``PodApi`` for the operator's look."""

    def __init__(self, resource: Json, objects: list[Json], *, knows_pod_monitors: bool) -> None:
        self._resource = resource
        self._objects = objects
        self._knows_pod_monitors = knows_pod_monitors

    async def look(self, resource: Json) -> Observed:
        """Return what the operator would observe if the buffer were this one."""
        self._resource = resource
        metadata = resource["metadata"]
        found = await observe(self, self, metadata["namespace"], metadata["name"])
        if found is None:
            raise LookupError(metadata["name"])
        return found

    async def knows(self, kind: Kind) -> bool:
        """See Reader."""
        return kind != POD_MONITOR or self._knows_pod_monitors

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """See Reader."""
        del namespace
        if kind == BUFFER:
            return self._resource
        if kind == SECRET:
            return self._secret(name)
        return next((one for one in self._objects if _is(one, kind) and one["metadata"]["name"] == name), None)

    async def list(self, kind: Kind, namespace: str | None, selector: str) -> list[Json]:
        """See Reader. All that was fetched belongs to the buffer, so the selector chooses nothing more."""
        del namespace, selector
        return [one for one in self._objects if _is(one, kind) and labels.BUFFER in one["metadata"].get("labels", {})]

    async def status(self, address: str, token: str) -> ServiceStatus:
        """See PodApi."""
        del address, token
        raise UnavailableError(_SILENCE)

    async def export(self, address: str, token: str) -> Exported:
        """See PodApi."""
        del address, token
        raise UnavailableError(_SILENCE)

    def _secret(self, name: str) -> Json | None:
        if not any(_is(one, STATEFUL_SET) for one in self._objects):
            return None
        metadata = self._resource["metadata"]
        return {"metadata": {"name": name, "ownerReferences": [{"controller": True, "uid": metadata["uid"]}]}}


def fetch(kubectl: Kubectl, resource: Json) -> Live:
    """Fetch what there is of a buffer; raises PluginError."""
    name = resource["metadata"]["name"]
    known = kubectl("api-resources", "--api-group", POD_MONITOR.api_version.partition("/")[0], "--output", "name")
    knows_pod_monitors = POD_MONITOR.plural in known
    optional = [NETWORK_POLICY, DISRUPTION_BUDGET, *([POD_MONITOR] if knows_pod_monitors else [])]
    wanted = [*children_of(name), (CLAIM, claim_of_first_pod(name)), *((kind, name) for kind in optional)]
    objects = kubectl.objects(*(f"{_type(kind)}/{child}" for kind, child in wanted))
    objects += kubectl.objects(f"{_type(JOB)},{_type(POD)}", "--selector", labels.selector_of(name))
    return Live(resource, objects, knows_pod_monitors=knows_pod_monitors)


def _type(kind: Kind) -> str:
    group, _, _ = kind.api_version.rpartition("/")
    return f"{kind.plural}.{group}" if group else kind.plural


def _is(item: Json, kind: Kind) -> bool:
    return (item.get("apiVersion"), item.get("kind")) == (kind.api_version, kind.name)
