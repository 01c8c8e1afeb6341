"""The verdict on each condition, from what was observed. Pure; one function per condition, first match wins."""

from __future__ import annotations

from buffer_operator.conditions import (
    Condition,
    Conditions,
    ConditionType,
    Reason,
    Truth,
    kept,
    parse_timestamp,
    previous,
    unobserved,
)
from buffer_operator.kinds import STATEFUL_SET, Json
from buffer_operator.observed import JobView, Observed
from buffer_operator.plan import foreign_children
from buffer_operator.rebuilds import active_job, current_refusal
from buffer_service.contract.pointer import Pointer


def judge(observed: Observed, failure: Reason | None, message: str) -> Conditions:
    """Return every condition; ``failure`` is what went wrong while the plan was carried out."""
    return {
        ConditionType.READY: _ready(observed, failure, message),
        ConditionType.PROGRESSING: _progressing(observed, failure, message),
        ConditionType.INDEX_CURRENT: _index_current(observed),
        ConditionType.REBUILD_SUCCEEDED: _rebuild_succeeded(observed, failure, message),
    }


def _ready(observed: Observed, failure: Reason | None, message: str) -> Condition:
    spec = observed.buffer.spec
    if spec is None:
        return Condition(Truth.FALSE, Reason.INVALID_SPEC, observed.buffer.invalid)
    condition = _blocked(observed) or _pods_ready(observed, spec.replicas)
    if failure == Reason.REFUSED_BY_API and condition.status != Truth.TRUE:
        return Condition(Truth.FALSE, failure, message)
    return condition


def _blocked(observed: Observed) -> Condition | None:
    buffer = observed.buffer
    if buffer.deleting:
        return Condition(Truth.FALSE, Reason.TERMINATING, "The buffer is being deleted.")
    foreign = foreign_children(observed)
    if foreign:
        text = f"{', '.join(foreign)} exists and belongs to something else: rename the buffer or remove it."
        return Condition(Truth.FALSE, Reason.NAME_TAKEN, text)
    return None


def _pods_ready(observed: Observed, wanted: int) -> Condition:
    ready = sum(pod.ready for pod in observed.pods)
    if ready >= wanted:
        return Condition(Truth.TRUE, Reason.ALL_READY, f"{ready} of {wanted} pods are ready.")
    trouble = next((pod.trouble for pod in observed.pods if pod.trouble), None)
    if trouble:
        return Condition(Truth.FALSE, trouble.reason, trouble.message)
    if any(pod.deleting for pod in observed.pods):
        return Condition(Truth.FALSE, Reason.TERMINATING, "A pod is being replaced.")
    if not observed.pods:
        return Condition(Truth.FALSE, Reason.CREATING, "The StatefulSet has not created its pod yet.")
    return Condition(Truth.FALSE, Reason.STARTING, f"{ready} of {wanted} pods are ready; the others are starting.")


def _progressing(observed: Observed, failure: Reason | None, message: str) -> Condition:
    if observed.buffer.spec is None:
        return Condition(Truth.FALSE, Reason.INVALID_SPEC, "Nothing is changed while the spec is not valid.")
    if failure == Reason.REFUSED_BY_API:
        return Condition(Truth.FALSE, failure, message)
    return _on_the_way(observed) or Condition(Truth.FALSE, Reason.SETTLED, "Everything is as the spec asks.")


def _on_the_way(observed: Observed) -> Condition | None:
    found = observed.children.get((STATEFUL_SET, observed.buffer.name))
    if found is None:
        return Condition(Truth.TRUE, Reason.CREATING, "The objects of the buffer are being created.")
    if not _rolled_out(found):
        return Condition(Truth.TRUE, Reason.ROLLING_OUT, "The StatefulSet is bringing its pods to the latest template.")
    job = active_job(observed)
    if job:
        return Condition(Truth.TRUE, Reason.REBUILDING, f"Job {job.name} builds generation {job.generation}.")
    if _behind(observed):
        return Condition(Truth.TRUE, Reason.SWITCHING, "Pods are switching to the generation that is pointed to.")
    return None


def _rolled_out(stateful_set: Json) -> bool:
    status, wanted = stateful_set.get("status", {}), stateful_set["spec"].get("replicas", 1)
    seen: bool = status.get("observedGeneration", 0) >= stateful_set["metadata"].get("generation", 0)
    ready: bool = status.get("readyReplicas", 0) >= wanted
    latest: bool = status.get("currentRevision") == status.get("updateRevision")
    return seen and ready and latest


def _behind(observed: Observed) -> bool:
    pointer = observed.pointer
    return any(pointer and pod.service and pod.service.pointer_revision != pointer.revision for pod in observed.serving)


def _index_current(observed: Observed) -> Condition:
    pointer = observed.pointer
    if pointer is None:
        text = observed.pointer_error or "The pointer's ConfigMap does not exist yet."
        return Condition(Truth.UNKNOWN, Reason.POINTER_UNREADABLE, text)
    if not observed.serving:
        silence = next((pod.silence for pod in observed.pods if pod.silence), "no pod is ready")
        return Condition(Truth.UNKNOWN, Reason.PODS_SILENT, f"What is served is not known: {silence}.")
    return _refused(observed) or _rolled_back(observed) or _served(observed, pointer)


def _refused(observed: Observed) -> Condition | None:
    refused = current_refusal(observed)
    if refused is None:
        return None
    pod, refusal = refused
    text = f"{pod.name} refuses generation {refusal.generation}: {refusal.reason.rstrip('.')}."
    return Condition(Truth.FALSE, Reason.GENERATION_REFUSED, text)


def _served(observed: Observed, pointer: Pointer) -> Condition:
    if _behind(observed):
        text = f"The pods do not serve revision {pointer.revision} (generation {pointer.generation}) yet."
        return Condition(Truth.FALSE, Reason.SWITCHING, text)
    if pointer.generation == 0:
        return Condition(Truth.TRUE, Reason.NO_GENERATION, "There is no index yet: every experience is searched.")
    return Condition(Truth.TRUE, Reason.SERVED, f"Generation {pointer.generation} is served by every ready pod.")


def _rolled_back(observed: Observed) -> Condition | None:
    """After a refusal the pods serve what is pointed to, and that is not what was meant."""
    pointer = observed.pointer
    if pointer is None or pointer.reason != "rollback":
        return None
    for pod in observed.serving:
        refusal = pod.service.refused if pod.service else None
        if refusal and refusal.revision == pointer.revision - 1:
            text = (
                f"{pod.name} refused generation {refusal.generation}: {refusal.reason.rstrip('.')}. "
                f"The pointer was taken back to generation {pointer.generation}."
            )
            return Condition(Truth.FALSE, Reason.GENERATION_REFUSED, text)
    before = kept(observed.buffer.status.get("conditions", []), ConditionType.INDEX_CURRENT)
    same = observed.buffer.status.get("index", {}).get("revision") == pointer.revision
    return before if before and same and before.reason == Reason.GENERATION_REFUSED else None


def _rebuild_succeeded(observed: Observed, failure: Reason | None, message: str) -> Condition:
    if failure == Reason.EXPORT_FAILED:
        return Condition(Truth.FALSE, failure, message)
    existing = observed.buffer.status.get("conditions", [])
    before = kept(existing, ConditionType.REBUILD_SUCCEEDED)
    finished = [job for job in observed.jobs if not job.active]
    none_yet = unobserved()[ConditionType.REBUILD_SUCCEEDED]
    if not finished:
        fresh = before is None or before.reason in (none_yet.reason, Reason.NO_REBUILD_YET)
        return _no_rebuild_yet() if fresh or before is None else before
    last = finished[-1]
    if before and before.reason == Reason.EXPORT_FAILED and not _newer(last, existing):
        return before
    return _outcome(last, observed)


def _no_rebuild_yet() -> Condition:
    return Condition(Truth.UNKNOWN, Reason.NO_REBUILD_YET, "No rebuild has finished yet.")


def _newer(job: JobView, existing: list[Json]) -> bool:
    entry = previous(existing, ConditionType.REBUILD_SUCCEEDED)
    return entry is None or (job.finished_at or 0.0) > parse_timestamp(entry["lastTransitionTime"])


def _outcome(job: JobView, observed: Observed) -> Condition:
    if not job.succeeded:
        text = f"Job {job.name} failed: {job.message or 'no reason was given'}"
        return Condition(Truth.FALSE, Reason.REBUILD_FAILED, text)
    if observed.pointer and observed.pointer.generation < job.generation:
        text = f"Job {job.name} built generation {job.generation}, which is not the one that is pointed to."
        return Condition(Truth.FALSE, Reason.GENERATION_REFUSED, text)
    return Condition(Truth.TRUE, Reason.REBUILT, f"Job {job.name} built generation {job.generation}.")
