"""The verdict on each condition, from what was observed. Pure; one function per condition, first match wins."""

from __future__ import annotations

from buffer_operator.kube.kinds import STATEFUL_SET, Json
from buffer_operator.observing.observed import Observed
from buffer_operator.planning.adoption import unusable_content
from buffer_operator.planning.plan import foreign_children
from buffer_operator.planning.propagation import behind, propagation
from buffer_operator.planning.rebuilds import active_job
from buffer_operator.planning.suspension import paused_by, suspended
from buffer_operator.reporting.index_verdicts import index_current, rebuild_succeeded
from buffer_operator.resource.conditions import (
    Condition,
    Conditions,
    ConditionType,
    Reason,
    Truth,
    unobserved,
)


def judge(observed: Observed, failure: Reason | None, message: str, now: float) -> Conditions:
    """Return every condition; ``failure`` is what went wrong while the plan was carried out."""
    return unobserved() | {
        ConditionType.READY: _ready(observed, failure, message),
        ConditionType.AVAILABLE: _available(observed),
        ConditionType.PROGRESSING: _progressing(observed, failure, message),
        ConditionType.INDEX_CURRENT: index_current(observed),
        ConditionType.REBUILD_SUCCEEDED: rebuild_succeeded(observed, failure, message),
        ConditionType.POINTER_PROPAGATED: propagation(observed, now),
    }


def _ready(observed: Observed, failure: Reason | None, message: str) -> Condition:
    spec = observed.buffer.spec
    if spec is None:
        return Condition(Truth.FALSE, Reason.INVALID_SPEC, observed.buffer.invalid)
    condition = _blocked(observed) or suspended(observed) or _pods_ready(observed, spec.pods_wanted)
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
    unusable = unusable_content(observed)
    return Condition(Truth.FALSE, Reason.VOLUME_UNUSABLE, unusable) if unusable else None


def _pods_ready(observed: Observed, wanted: int) -> Condition:
    ready = sum(pod.ready for pod in observed.pods)
    if ready >= wanted:
        return Condition(Truth.TRUE, Reason.ALL_READY, f"{ready} of {wanted} pods are ready.")
    return _pod_trouble(observed) or _pod_on_its_way(observed, f"{ready} of {wanted} pods are ready")


def _pod_trouble(observed: Observed) -> Condition | None:
    if observed.token_problem:
        return Condition(Truth.FALSE, Reason.SECRET_UNUSABLE, observed.token_problem)
    trouble = next((pod.trouble for pod in observed.pods if pod.trouble), None)
    if trouble:
        return Condition(Truth.FALSE, trouble.reason, trouble.message)
    without_gpu = _without_gpu(observed)
    return Condition(Truth.FALSE, Reason.GPU_UNUSABLE, without_gpu) if without_gpu else None


def _pod_on_its_way(observed: Observed, count: str) -> Condition:
    if any(pod.deleting for pod in observed.pods):
        return Condition(Truth.FALSE, Reason.TERMINATING, "A pod is being replaced.")
    if not observed.pods:
        return Condition(Truth.FALSE, Reason.CREATING, "The StatefulSet has not created its pod yet.")
    return Condition(Truth.FALSE, Reason.STARTING, f"{count}; the others are starting.")


def _without_gpu(observed: Observed) -> str:
    """Return which pod waits because it may not serve from the CPU, and why it has no GPU; empty where none does."""
    for pod in observed.pods:
        if pod.service and not pod.ready and pod.service.backend.active == "cpu":
            why = pod.service.backend.reason.rstrip(".")
            return f"{pod.name} cannot use a GPU, and gpu.fallback is Forbidden: {why}."
    return ""


def _available(observed: Observed) -> Condition:
    """Whether clients get answers, however far the rest has come; a spec that is not valid takes nothing away."""
    spec = observed.buffer.spec
    if not any(pod.ready for pod in observed.pods):
        if spec is not None and spec.suspended:
            return Condition(Truth.FALSE, Reason.SUSPENDED, "The buffer is suspended: requests are not answered.")
        return Condition(Truth.FALSE, Reason.NO_READY_POD, "No pod is ready: requests are not answered.")
    for pod in observed.serving:
        if pod.service and not pod.service.store.writable:
            why = pod.service.store.reason.rstrip(".")
            return Condition(Truth.TRUE, Reason.READ_ONLY, f"{pod.name} answers reads and refuses writes: {why}.")
    if not observed.serving:
        text = "Requests are answered; whether writes are taken is not known, for the operator cannot ask the pod."
        return Condition(Truth.TRUE, Reason.SERVING, text)
    return Condition(Truth.TRUE, Reason.SERVING, "Reads and writes are answered.")


def _progressing(observed: Observed, failure: Reason | None, message: str) -> Condition:
    if observed.buffer.spec is None:
        return Condition(Truth.FALSE, Reason.INVALID_SPEC, "Nothing is changed while the spec is not valid.")
    if failure == Reason.REFUSED_BY_API:
        return Condition(Truth.FALSE, failure, message)
    if paused_by(observed.buffer) is not None:
        return Condition(Truth.FALSE, Reason.PAUSED, "Nothing is applied while reconciliation is paused; see Paused.")
    if failure == Reason.WAITING_FOR_TURN:
        return Condition(Truth.TRUE, failure, message)
    return _on_the_way(observed) or _settled(observed)


def _settled(observed: Observed) -> Condition:
    spec = observed.buffer.spec
    if spec is not None and spec.monitoring.pod_monitor and not observed.knows_pod_monitors:
        text = "Everything is as the spec asks, but for the PodMonitor: the cluster does not know that kind."
        return Condition(Truth.FALSE, Reason.SETTLED, text)
    return Condition(Truth.FALSE, Reason.SETTLED, "Everything is as the spec asks.")


def _on_the_way(observed: Observed) -> Condition | None:
    found = observed.children.get((STATEFUL_SET, observed.buffer.name))
    if found is None:
        return Condition(Truth.TRUE, Reason.CREATING, "The objects of the buffer are being created.")
    if not _rolled_out(found):
        return Condition(Truth.TRUE, Reason.ROLLING_OUT, "The StatefulSet is bringing its pods to the latest template.")
    job = active_job(observed)
    if job:
        why = f": {job.trigger_message}" if job.trigger_message else ""
        return Condition(Truth.TRUE, Reason.REBUILDING, f"Job {job.name} builds generation {job.generation}{why}.")
    if behind(observed):
        return Condition(Truth.TRUE, Reason.SWITCHING, "Pods are switching to the generation that is pointed to.")
    return None


def _rolled_out(stateful_set: Json) -> bool:
    status, wanted = stateful_set.get("status", {}), stateful_set["spec"].get("replicas", 1)
    seen: bool = status.get("observedGeneration", 0) >= stateful_set["metadata"].get("generation", 0)
    ready: bool = status.get("readyReplicas", 0) >= wanted
    latest: bool = status.get("currentRevision") == status.get("updateRevision")
    return seen and ready and latest
