"""The status of a buffer, derived from what was observed. Pure; a later visit that sees the same writes the same.

Conditions are the truth; ``phase`` and ``ready`` are derived from them for people.
"""

from __future__ import annotations

from dataclasses import dataclass

from buffer_operator.kube.kinds import STATEFUL_SET, Json
from buffer_operator.kube.labels import Component, selection
from buffer_operator.observing.observed import Observed
from buffer_operator.planning.actions import EvictPod, describe
from buffer_operator.planning.plan import changes, restarts_due
from buffer_operator.planning.rebuilds import active_job, next_rebuild, rebuild_status
from buffer_operator.planning.rollbacks import rollback_status
from buffer_operator.planning.suspension import paused, paused_by
from buffer_operator.planning.volumes import refused_growth, volume_entries
from buffer_operator.reporting import verdicts
from buffer_operator.reporting.index_status import index_status
from buffer_operator.reporting.storage import judge_storage
from buffer_operator.resource import conditions as conditions_module
from buffer_operator.resource.conditions import Conditions, ConditionType, Reason, Truth
from buffer_service.contract.status import ServiceStatus


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong while the plan was carried out."""

    reason: Reason
    message: str
    size: str = ""
    """The size that a volume could not be given."""


def initial_status(generation: int, now: float) -> Json:
    """Return the status before the first look: every condition unknown."""
    unobserved = conditions_module.unobserved()
    return {
        "observedGeneration": generation,
        "phase": "Pending",
        "conditions": conditions_module.written([], unobserved, generation, now),
    }


def status_of(observed: Observed, image: str, failure: Failure | None, now: float) -> Json:
    """Return the status to write; ``now`` is Unix time in seconds."""
    buffer = observed.buffer
    before: list[Json] = buffer.status.get("conditions", [])
    current = verdicts.judge(observed, failure.reason if failure else None, failure.message if failure else "", now)
    refused = _refused_growth(observed, failure, now)
    current[ConditionType.STORAGE_HEALTHY] = judge_storage(observed, refused)
    current[ConditionType.PAUSED] = paused(observed, _changes(observed, image, now))
    status = {
        "observedGeneration": buffer.generation,
        "phase": _phase(observed, current),
        "conditions": conditions_module.written(before, current, buffer.generation, now),
        "selector": ",".join(f"{key}={value}" for key, value in selection(buffer.name, Component.BUFFER).items()),
        "endpoint": f"http://{buffer.name}.{buffer.namespace}.svc",
        **_pods(observed),
        **_counters(observed),
        **({"image": image} if image else {}),
    }
    index = index_status(observed)
    rebuild = rebuild_status(observed, now, queued=failure is not None and failure.reason == Reason.WAITING_FOR_TURN)
    rollback = rollback_status(observed, buffer.spec, now) if buffer.spec else buffer.status.get("rollback", {})
    volumes = volume_entries(observed, refused)
    restarts = _restarts(observed, image, now)
    coming = next_rebuild(observed, buffer.spec, now) if buffer.spec else {}
    parts = {
        "index": index,
        "rebuild": rebuild,
        "nextRebuild": coming,
        "rollback": rollback,
        "volumes": volumes,
        "pendingRestarts": restarts,
    }
    return status | {name: part for name, part in parts.items() if part}


def _refused_growth(observed: Observed, failure: Failure | None, now: float) -> Json | None:
    if failure is None or failure.reason != Reason.RESIZE_REFUSED:
        return refused_growth(observed)
    return {"size": failure.size, "at": conditions_module.timestamp(now), "message": failure.message}


def _restarts(observed: Observed, image: str, now: float) -> list[Json]:
    return [
        {"pod": restart.pod, "reason": str(restart.reason), "message": restart.message}
        for restart in restarts_due(observed, image, now)
    ]


def _changes(observed: Observed, image: str, now: float) -> list[str]:
    """What would be done if it were not paused; reckoned only where it is."""
    if paused_by(observed.buffer) is None:
        return []
    restarts = [f"restart {entry['pod']} ({entry['reason']})" for entry in _restarts(observed, image, now)]
    actions = [action for action in changes(observed, image, now) if not isinstance(action, EvictPod)]
    return [*(describe(action) for action in actions), *restarts]


def _phase(observed: Observed, current: Conditions) -> str:
    ready = current[ConditionType.READY]
    if observed.buffer.deleting:
        return "Terminating"
    if ready.reason == Reason.INVALID_SPEC:
        return "Invalid"
    if ready.reason in (Reason.NAME_TAKEN, Reason.VOLUME_UNUSABLE, Reason.REFUSED_BY_API):
        return "Blocked"
    if current[ConditionType.PAUSED].status == Truth.TRUE:
        return "Paused"
    return _phase_of_pods(observed, current)


def _phase_of_pods(observed: Observed, current: Conditions) -> str:
    ready, index = current[ConditionType.READY], current[ConditionType.INDEX_CURRENT]
    if ready.reason in (Reason.SUSPENDED, Reason.SUSPENDING):
        return "Suspended"
    if ready.status != Truth.TRUE:
        return "Pending" if ready.reason == Reason.UNSCHEDULABLE else "Starting"
    if index.reason == Reason.GENERATION_REFUSED:
        return "Degraded"
    return "Rebuilding" if active_job(observed) else "Ready"


def _pods(observed: Observed) -> Json:
    found = observed.children.get((STATEFUL_SET, observed.buffer.name), {})
    wanted = found.get("spec", {}).get("replicas", 0)
    ready = sum(pod.ready for pod in observed.pods)
    return {"replicas": len(observed.pods), "readyReplicas": ready, "ready": f"{ready}/{wanted}"}


def _service(observed: Observed) -> ServiceStatus | None:
    return next((pod.service for pod in observed.serving), None)


def _counters(observed: Observed) -> Json:
    """What the pod counts; while no pod answers, what was known last."""
    service = _service(observed)
    if service is None:
        before = observed.buffer.status
        return {
            name: before[name] for name in ("records", "capacity", "pendingOperations", "backend") if name in before
        }
    return {
        "records": service.size,
        "capacity": service.capacity,
        "pendingOperations": service.pending_operations,
        "backend": {
            "requested": service.backend.requested,
            "active": service.backend.active,
            "reason": service.backend.reason,
        },
    }
