"""The status of a buffer, derived from what was observed. Pure; a later visit that sees the same writes the same.

Conditions are the truth; ``phase`` and ``ready`` are derived from them for people.
"""

from __future__ import annotations

from dataclasses import dataclass

from buffer_operator import conditions as conditions_module
from buffer_operator import verdicts
from buffer_operator.conditions import Conditions, ConditionType, Reason, Truth
from buffer_operator.generations import highest_generation, known_generations
from buffer_operator.kinds import STATEFUL_SET, Json
from buffer_operator.labels import Component, selection
from buffer_operator.observed import Observed
from buffer_operator.rebuilds import active_job, failed_attempts
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import ServiceStatus


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong while the plan was carried out."""

    reason: Reason
    message: str


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
    current = verdicts.judge(observed, failure.reason if failure else None, failure.message if failure else "")
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
    index = _index(observed)
    rebuild = _rebuild(observed)
    return status | ({"index": index} if index else {}) | ({"rebuild": rebuild} if rebuild else {})


def _phase(observed: Observed, current: Conditions) -> str:
    ready, index = current[ConditionType.READY], current[ConditionType.INDEX_CURRENT]
    if observed.buffer.deleting:
        return "Terminating"
    if ready.reason == Reason.INVALID_SPEC:
        return "Invalid"
    if ready.reason in (Reason.NAME_TAKEN, Reason.REFUSED_BY_API):
        return "Blocked"
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


def _index(observed: Observed) -> Json:
    before: Json = observed.buffer.status.get("index", {})
    pointer = observed.pointer
    if pointer is None:
        return before
    known = known_generations(observed)
    others = [entry["generation"] for entry in known if entry["generation"] != pointer.generation]
    index: Json = {
        "generation": pointer.generation,
        "watermark": pointer.watermark,
        "revision": pointer.revision,
        "previousGeneration": others[0] if others else 0,
        "known": known,
    }
    if pointer.flipped_at:
        index["flippedAt"] = conditions_module.timestamp(pointer.flipped_at)
    return index | _served(observed, before, pointer)


def _served(observed: Observed, before: Json, pointer: Pointer) -> Json:
    """When the pods began to serve the pointer. Measured once for each revision: a restart is no switch."""
    names = ("count", "servedAt", "flipToServingSeconds")
    if before.get("revision") == pointer.revision and "servedAt" in before:
        return {name: before[name] for name in names if name in before}
    services = [pod.service for pod in observed.serving if pod.service]
    switches = [one.switch for one in services if one.switch and one.switch.revision == pointer.revision]
    if not services or len(switches) < len(services):
        return {}
    return {
        "count": services[0].index_rows,
        "servedAt": conditions_module.timestamp(max(switch.at for switch in switches)),
        "flipToServingSeconds": round(max(switch.since_flip_s for switch in switches), 3),
    }


def _rebuild(observed: Observed) -> Json:
    job = active_job(observed)
    return {
        "lastGeneration": highest_generation(observed),
        "failedAttempts": failed_attempts(observed),
        **({"job": job.name} if job else {}),
    }
