"""The verdicts on the index and its rebuilds, from what was observed. Pure; first match wins."""

from __future__ import annotations

from buffer_operator.kube.kinds import Json
from buffer_operator.observing.observed import JobView, Observed
from buffer_operator.planning import rollbacks
from buffer_operator.planning.propagation import behind, crashing_since_flip, current_refusal
from buffer_operator.resource.conditions import (
    Condition,
    ConditionType,
    Reason,
    Truth,
    kept,
    parse_timestamp,
    previous,
    unobserved,
)
from buffer_service.contract.pointer import Pointer

_DEADLINE = "DeadlineExceeded"
_QUALITY_WORDS = "the index is not published"


def index_current(observed: Observed) -> Condition:
    """Whether the pods serve what is pointed to, and that is what was meant."""
    pointer = observed.pointer
    if pointer is None:
        text = observed.pointer_error or "The pointer's ConfigMap does not exist yet."
        return Condition(Truth.UNKNOWN, Reason.POINTER_UNREADABLE, text)
    failed = _refused(observed) or _crashing(observed, pointer) or _taken_back(observed, pointer)
    if failed:
        return failed
    if not observed.serving:
        silence = next((pod.silence for pod in observed.pods if pod.silence), "no pod is ready")
        return Condition(Truth.UNKNOWN, Reason.PODS_SILENT, f"What is served is not known: {silence}.")
    return _served(observed, pointer)


def _refused(observed: Observed) -> Condition | None:
    refused = current_refusal(observed)
    if refused is None:
        return None
    pod, refusal = refused
    text = f"{pod.name} refuses generation {refusal.generation}: {refusal.reason.rstrip('.')}."
    return Condition(Truth.FALSE, Reason.GENERATION_REFUSED, text)


def _crashing(observed: Observed, pointer: Pointer) -> Condition | None:
    pod = crashing_since_flip(observed)
    if pod is None or pod.trouble is None:
        return None
    text = f"{pod.name} crashes since generation {pointer.generation} is pointed to: {pod.trouble.message.rstrip('.')}."
    return Condition(Truth.FALSE, Reason.CANARY_FAILED, text)


def _taken_back(observed: Observed, pointer: Pointer) -> Condition | None:
    """After a generation has failed the pods serve what is pointed to, and that is not what was meant."""
    if pointer.reason != "rollback" or rollbacks.carried_out(observed):
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
    recorded = observed.buffer.status.get("index", {}).get("revision")
    since = recorded in (pointer.revision, pointer.revision - 1)
    failed = before is not None and before.reason in (Reason.GENERATION_REFUSED, Reason.CANARY_FAILED)
    return before if since and failed else None


def _served(observed: Observed, pointer: Pointer) -> Condition:
    if behind(observed):
        text = f"The pods do not serve revision {pointer.revision} (generation {pointer.generation}) yet."
        return Condition(Truth.FALSE, Reason.SWITCHING, text)
    if pointer.generation == 0:
        return Condition(Truth.TRUE, Reason.NO_GENERATION, "There is no index yet: every experience is searched.")
    text = f"Generation {pointer.generation} is served by every ready pod."
    if rollbacks.carried_out(observed):
        return Condition(Truth.TRUE, Reason.ROLLED_BACK, f"{text} It was gone back to because somebody asked for it.")
    return Condition(Truth.TRUE, Reason.SERVED, text)


def rebuild_succeeded(observed: Observed, failure: Reason | None, message: str) -> Condition:
    """Whether the last rebuild did; ``failure`` is what went wrong while the plan was carried out."""
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
    why = f" ({job.trigger_message})" if job.trigger_message else ""
    if not job.succeeded:
        text = f"Job {job.name}{why} failed: {job.message or 'no reason was given'}"
        return Condition(Truth.FALSE, _reason_of_failure(job), text)
    text = f"Job {job.name}{why} built generation {job.generation}"
    if observed.pointer and observed.pointer.generation < job.generation:
        if rollbacks.carried_out(observed):
            return Condition(Truth.TRUE, Reason.ROLLED_BACK, f"{text}, which somebody has gone back from.")
        return Condition(Truth.FALSE, Reason.GENERATION_REFUSED, f"{text}, which is not the one that is pointed to.")
    return Condition(Truth.TRUE, Reason.REBUILT, f"{text}.")


def _reason_of_failure(job: JobView) -> Reason:
    if job.failure == _DEADLINE:
        return Reason.DEADLINE_EXCEEDED
    return Reason.QUALITY_TOO_LOW if _QUALITY_WORDS in job.message else Reason.REBUILD_FAILED
