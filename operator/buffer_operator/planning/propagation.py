"""From the move of the pointer until every pod serves it: who is behind, who failed, and what follows. Pure.

A pod checks a generation and runs its canaries before it serves it, and refuses it otherwise. A pod that ends instead
of refusing cannot say so: where one keeps crashing since the pointer was moved, and the move was never served
everywhere, the generation counts as refused by it.
"""

from __future__ import annotations

from typing import Final

from buffer_operator.observing.observed import Observed, PodView
from buffer_operator.resource.conditions import Condition, Reason, Truth
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import Refusal, ServiceStatus

PROPAGATION_MAX_S: Final = 120.0
"""A pod that has not followed by then will hardly do so by itself: kubelets refresh mounts every 90 s unasked."""


def follows(service: ServiceStatus, pointer: Pointer) -> bool:
    """Whether a pod serves what is pointed to.

    No index is the same no index at every revision: a pod that has never served one does not follow the way back to it.
    """
    return service.pointer_revision == pointer.revision or pointer.generation == service.generation == 0


def behind(observed: Observed) -> list[PodView]:
    """Return the pods that answer and do not serve what is pointed to."""
    pointer = observed.pointer
    if pointer is None:
        return []
    return [pod for pod in observed.serving if pod.service and not follows(pod.service, pointer)]


def current_refusal(observed: Observed) -> tuple[PodView, Refusal] | None:
    """Return a pod that refuses the pointer as it is now, and why."""
    pointer = observed.pointer
    if pointer is None:
        return None
    for pod in observed.pods:
        refusal = pod.service.refused if pod.service else None
        if pod.service and refusal and refusal.revision == pointer.revision and not follows(pod.service, pointer):
            return pod, refusal
    return None


def crashing_since_flip(observed: Observed) -> PodView | None:
    """Return a pod that crashes again and again since the pointer was moved, None once that was served."""
    pointer = observed.pointer
    if pointer is None or pointer.generation == 0 or _was_served(observed, pointer):
        return None
    return next((pod for pod in observed.pods if pod.trouble and 0 < pod.crashed_at >= pointer.flipped_at), None)


def _was_served(observed: Observed, pointer: Pointer) -> bool:
    index = observed.buffer.status.get("index", {})
    return index.get("revision") == pointer.revision and "servedAt" in index


def propagation(observed: Observed, now: float) -> Condition:
    """Return the condition PointerPropagated."""
    pointer = observed.pointer
    if pointer is None:
        text = observed.pointer_error or "the pointer's ConfigMap does not exist yet"
        return Condition(Truth.UNKNOWN, Reason.POINTER_UNREADABLE, f"There is no pointer to be served: {text}.")
    refused = current_refusal(observed)
    if refused:
        pod, refusal = refused
        text = f"{pod.name} refuses revision {pointer.revision}: {refusal.reason.rstrip('.')}."
        return Condition(Truth.FALSE, Reason.GENERATION_REFUSED, text)
    crashing = crashing_since_flip(observed)
    if crashing and crashing.trouble:
        text = f"{crashing.name} crashes since the pointer was moved: {crashing.trouble.message.rstrip('.')}."
        return Condition(Truth.FALSE, Reason.CANARY_FAILED, text)
    return _behind(observed, pointer, now) or _silent(observed) or _propagated(pointer)


def _behind(observed: Observed, pointer: Pointer, now: float) -> Condition | None:
    late = behind(observed)
    if not late:
        return None
    which = ", ".join(
        f"{pod.name} serves revision {pod.service.pointer_revision} (generation {pod.service.generation})"
        for pod in late
        if pod.service
    )
    if now - pointer.flipped_at > PROPAGATION_MAX_S:
        text = (
            f"{which} although revision {pointer.revision} is pointed to for more than {PROPAGATION_MAX_S:.0f} s, and "
            "does not say why: look at the pod's log and at the kubelet."
        )
        return Condition(Truth.FALSE, Reason.PROPAGATION_TIMED_OUT, text)
    text = f"{which}; revision {pointer.revision} (generation {pointer.generation}) is pointed to."
    return Condition(Truth.FALSE, Reason.PROPAGATING, text)


def _silent(observed: Observed) -> Condition | None:
    silent = [pod for pod in observed.pods if pod.ready and pod.service is None]
    if not silent and observed.serving:
        return None
    silence = f"{silent[0].name}: {silent[0].silence}" if silent else "no pod is ready"
    return Condition(Truth.UNKNOWN, Reason.PODS_SILENT, f"What the pods serve is not known: {silence}.")


def _propagated(pointer: Pointer) -> Condition:
    text = f"Every ready pod serves revision {pointer.revision} (generation {pointer.generation})."
    return Condition(Truth.TRUE, Reason.PROPAGATED, text)
