"""Kubernetes Events: one for each condition that changed, and one when FAISS fell back to the CPU.

An Event's name is derived from what it says, so that the API server refuses to store it twice; it forgets Events after
an hour.
"""

from __future__ import annotations

import hashlib

from buffer_operator.cluster import Cluster
from buffer_operator.conditions import Reason, Truth, previous, timestamp
from buffer_operator.kinds import BUFFER, EVENT, Json
from buffer_operator.observed import Buffer

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
    }
)
"""Reasons on the usual way from one state to another."""


def events_of(buffer: Buffer, status: Json, now: float) -> list[Json]:
    """Return the Events that this change of the status is worth. Pure."""
    found = []
    for entry in status["conditions"]:
        before = previous(buffer.status.get("conditions", []), entry["type"])
        if entry["reason"] in _QUIET or entry["status"] == Truth.UNKNOWN:
            continue
        if before is None or (before["status"], before["reason"]) != (entry["status"], entry["reason"]):
            kind = "Normal" if entry["status"] == Truth.TRUE else "Warning"
            found.append(_event(buffer, kind, entry["reason"], entry["message"], now))
    backend = status.get("backend", {})
    if fell_back(buffer, backend) and not fell_back(buffer, buffer.status.get("backend", {})):
        found.append(_event(buffer, "Warning", Reason.BACKEND_FELL_BACK, backend["reason"], now))
    return found


def fell_back(buffer: Buffer, backend: Json) -> bool:
    """Whether FAISS runs on the CPU although a GPU was asked for."""
    wants_gpu = backend.get("requested") == "gpu" or (buffer.spec is not None and buffer.spec.gpu is not None)
    return wants_gpu and backend.get("requested") != "cpu" and backend.get("active") == "cpu"


async def post(cluster: Cluster, events: list[Json]) -> None:
    """Store the Events; one that is there already stays alone."""
    for event in events:
        await cluster.create(event)


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
