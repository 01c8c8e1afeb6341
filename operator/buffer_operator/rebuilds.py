"""When to rebuild the index and when to take a generation back. Pure.

One rebuild at a time. Attempts that came to nothing are counted from the Jobs that are there: a finished Job whose
generation is above the pointer's has failed or was taken back. The pause after n of them in a row is the interval times
2**n, at most ``BACKOFF_MAX_S``.
"""

from __future__ import annotations

from typing import Final

from buffer_operator.actions import MovePointer, StartRebuild
from buffer_operator.builders.job import rebuild_job
from buffer_operator.generations import highest_generation, pointer_back_to
from buffer_operator.kinds import CONFIG_MAP
from buffer_operator.observed import JobView, Observed, PodView
from buffer_operator.spec import Spec
from buffer_service.contract import names
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import Refusal

BACKOFF_MAX_S: Final = 600.0
_INTERVAL_AFTER_FAILURE_MIN_S: Final = 10.0


def active_job(observed: Observed) -> JobView | None:
    """Return the rebuild Job that is running or may still run."""
    return next((job for job in observed.jobs if job.active), None)


def failed_attempts(observed: Observed) -> int:
    """Return how many rebuilds in a row came to nothing, as far as Jobs remember."""
    served = observed.pointer.generation if observed.pointer else 0
    return sum(not job.active and job.generation > served for job in observed.jobs)


def next_attempt_at(observed: Observed, spec: Spec) -> float:
    """Return the Unix time in seconds before which no rebuild starts."""
    flipped = observed.pointer.flipped_at if observed.pointer else 0.0
    last = max([flipped, *(job.finished_at or job.created_at for job in observed.jobs)])
    failures = failed_attempts(observed)
    interval = float(spec.rebuild.min_interval_seconds)
    if failures:
        interval = min(BACKOFF_MAX_S, max(interval, _INTERVAL_AFTER_FAILURE_MIN_S) * 2.0**failures)
    return last + interval


def current_refusal(observed: Observed) -> tuple[PodView, Refusal] | None:
    """Return a pod that refuses the pointer as it is now, and why."""
    for pod in observed.serving:
        refusal = pod.service.refused if pod.service else None
        if refusal and observed.pointer and refusal.revision == observed.pointer.revision:
            return pod, refusal
    return None


def plan_rollback(observed: Observed, now: float) -> MovePointer | None:
    """Go back to what the refusing pod serves, where its manifest's digest is known."""
    refused = current_refusal(observed)
    if refused is None:
        return None
    pod, _ = refused
    if pod.service is None or observed.pointer is None or pod.service.generation == observed.pointer.generation:
        return None
    target: Pointer | None = pointer_back_to(observed, pod.service.generation, now)
    if target is None:
        return None
    found = observed.children[CONFIG_MAP, names.pointer_config_map(observed.buffer.name)]
    return MovePointer(target, found["metadata"]["resourceVersion"])


def plan_rebuild(observed: Observed, spec: Spec, image: str, now: float) -> StartRebuild | None:
    """Start a rebuild where enough operations wait, nothing is under way and the pause is over.

    The pointer must have been recorded in the status first: a later rollback needs to know the generation before.
    """
    pointer = observed.pointer
    if pointer is None or active_job(observed) or now < next_attempt_at(observed, spec):
        return None
    if observed.buffer.status.get("index", {}).get("revision") != pointer.revision:
        return None
    pod = _pod_to_export(observed, spec, pointer)
    if pod is None:
        return None
    generation = highest_generation(observed) + 1
    return StartRebuild(pod.ip, generation, rebuild_job(observed.buffer, spec, image, generation))


def _pod_to_export(observed: Observed, spec: Spec, pointer: Pointer) -> PodView | None:
    """Return the pod with enough pending operations; none while a switch is under way."""
    if any(pod.service and pod.service.pointer_revision != pointer.revision for pod in observed.serving):
        return None
    for pod in observed.serving:
        if pod.service and pod.service.pending_operations >= spec.rebuild.every_operations:
            return pod
    return None
