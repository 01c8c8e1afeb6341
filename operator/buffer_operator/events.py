"""Kubernetes Events: for each condition that changed, each restart of a pod, and when FAISS fell back to the CPU.

An Event's name is derived from what it says: said again, it is counted and not stored twice. The API server forgets
Events after an hour.
"""

from __future__ import annotations

import contextlib
import hashlib

from buffer_operator.errors import ChangedError
from buffer_operator.kube.cluster import Cluster
from buffer_operator.kube.kinds import BUFFER, EVENT, Json
from buffer_operator.observing.observed import Buffer
from buffer_operator.resource.conditions import Reason, Truth, previous, timestamp
from buffer_service.contract import names

_MESSAGE_MAX = 1000
_QUIET = frozenset(
    {
        Reason.CREATING,
        Reason.STARTING,
        Reason.TERMINATING,
        Reason.ROLLING_OUT,
        Reason.REBUILDING,
        Reason.SETTLED,
        Reason.SWITCHING,
        Reason.NO_GENERATION,
        Reason.SERVING,
        Reason.SUSPENDING,
        Reason.RESIZING,
        Reason.PAUSED,
        Reason.PROPAGATED,
        Reason.PROPAGATING,
        Reason.VOLUME_HEALTHY,
        Reason.VOLUME_PENDING,
        Reason.ACTIVE,
        Reason.WAITING_FOR_TURN,
    }
)
"""Reasons on the usual way from one state to another."""
_ON_PURPOSE = frozenset({Reason.SUSPENDED})
"""Reasons for a condition that does not hold because somebody wants it so."""


def events_of(buffer: Buffer, status: Json, now: float) -> list[Json]:
    """Return the Events that this change of the status is worth. Pure."""
    found = []
    for entry in status["conditions"]:
        before = previous(buffer.status.get("conditions", []), entry["type"])
        if _worth_telling(entry, before):
            kind = "Normal" if entry["status"] == Truth.TRUE or entry["reason"] in _ON_PURPOSE else "Warning"
            found.append(_event(buffer, kind, entry["reason"], entry["message"], now))
    found += [
        _event(buffer, *told, now) for told in (_started(buffer, status), _not_rolled_back(buffer, status)) if told
    ]
    found += [_restart_event(buffer, restart, now) for restart in _new_restarts(buffer, status)]
    backend = status.get("backend", {})
    if fell_back(buffer, backend) and not fell_back(buffer, buffer.status.get("backend", {})):
        found.append(_event(buffer, "Warning", Reason.BACKEND_FELL_BACK, backend["reason"], now))
    return found


def _worth_telling(entry: Json, before: Json | None) -> bool:
    if entry["reason"] in _QUIET or entry["status"] == Truth.UNKNOWN:
        return False
    if before is not None and (before["status"], before["reason"]) == (entry["status"], entry["reason"]):
        return False
    # A buffer that has never answered has not stopped to.
    return entry["reason"] != Reason.NO_READY_POD or (before is not None and before["status"] == Truth.TRUE)


def _started(buffer: Buffer, status: Json) -> tuple[str, str, str] | None:
    """A rebuild that was not known of before; it may have ended already."""
    rebuild, before = status.get("rebuild", {}), buffer.status.get("rebuild", {})
    if rebuild.get("startedAt") in (None, before.get("startedAt")):
        return None
    job = names.rebuild_job(buffer.name, rebuild["lastGeneration"])
    return "Normal", Reason.REBUILD_STARTED, f"Job {job} was started: {rebuild['message'] or 'no reason is known'}."


def _not_rolled_back(buffer: Buffer, status: Json) -> tuple[str, str, str] | None:
    """A rollback by hand that cannot be carried out."""
    rollback = status.get("rollback", {})
    if rollback.get("result") != "Refused" or rollback == buffer.status.get("rollback"):
        return None
    return "Warning", Reason.ROLLBACK_REFUSED, f"The rollback to {rollback['request']}: {rollback['message']}."


def _new_restarts(buffer: Buffer, status: Json) -> list[Json]:
    before = [(restart["pod"], restart["reason"]) for restart in buffer.status.get("pendingRestarts", [])]
    pending: list[Json] = status.get("pendingRestarts", [])
    return [restart for restart in pending if (restart["pod"], restart["reason"]) not in before]


def _restart_event(buffer: Buffer, restart: Json, now: float) -> Json:
    """The generation tells it from an earlier restart with the same words."""
    text = f"{restart['pod']} is restarted (generation {buffer.generation} of the spec): {restart['message']}"
    return _event(buffer, "Normal", restart["reason"], text, now)


def fell_back(buffer: Buffer, backend: Json) -> bool:
    """Whether FAISS runs on the CPU although a GPU was asked for."""
    wants_gpu = backend.get("requested") == "gpu" or (buffer.spec is not None and buffer.spec.gpu is not None)
    return wants_gpu and backend.get("requested") != "cpu" and backend.get("active") == "cpu"


async def post(cluster: Cluster, events: list[Json]) -> None:
    """Store the Events, or count once more those that are there; raises as the cluster does, but for a lost race."""
    for event in events:
        if not await cluster.create(event):
            await _count(cluster, event)


async def _count(cluster: Cluster, event: Json) -> None:
    namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
    found = await cluster.get(EVENT, namespace, name)
    if found is None:
        return
    patch = {
        "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
        "count": found.get("count", 1) + 1,
        "lastTimestamp": event["lastTimestamp"],
    }
    with contextlib.suppress(ChangedError):
        await cluster.patch(EVENT, namespace, name, patch)


def _event(buffer: Buffer, kind: str, reason: str, message: str, now: float) -> Json:
    digest = hashlib.sha256(f"{buffer.uid}/{reason}/{message}".encode()).hexdigest()[:16]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {"name": f"{buffer.name}.{digest}", "namespace": buffer.namespace},
        "involvedObject": {
            "apiVersion": BUFFER.api_version,
            "kind": BUFFER.name,
            "namespace": buffer.namespace,
            "name": buffer.name,
            "uid": buffer.uid,
        },
        "type": kind,
        "reason": str(reason),
        "message": message[:_MESSAGE_MAX],
        "source": {"component": "experience-buffer-operator"},
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "count": 1,
    }
