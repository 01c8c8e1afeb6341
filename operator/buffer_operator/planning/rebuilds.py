"""When to rebuild the index and when to take a generation back. Pure.

One rebuild at a time. Attempts that came to nothing are counted from the Jobs that are there: a finished Job whose
generation is above the pointer's has failed or was taken back. The pause after n of them in a row is the interval times
2**n, at most ``BACKOFF_MAX_S``; what is asked for by hand waits for neither.
"""

from __future__ import annotations

from typing import Final

from buffer_operator.builders.job import Cause, rebuild_job
from buffer_operator.kube.kinds import CONFIG_MAP, Json
from buffer_operator.observing.observed import JobView, Observed, PodView
from buffer_operator.planning import rollbacks, triggers
from buffer_operator.planning.actions import MovePointer, StartRebuild
from buffer_operator.planning.generations import highest_generation, pointer_back_to, rollback_targets
from buffer_operator.planning.propagation import behind, crashing_since_flip, current_refusal
from buffer_operator.planning.triggers import Trigger, TriggerKind
from buffer_operator.resource.conditions import parse_timestamp, timestamp
from buffer_operator.resource.schedule import next_point
from buffer_operator.resource.spec import Spec
from buffer_service.contract import names
from buffer_service.contract.pointer import Pointer

BACKOFF_MAX_S: Final = 600.0
_INTERVAL_AFTER_FAILURE_MIN_S: Final = 10.0


def active_job(observed: Observed) -> JobView | None:
    """Return the rebuild Job that is running or may still run."""
    return next((job for job in observed.jobs if job.active), None)


def failed_attempts(observed: Observed) -> int:
    """Return how many rebuilds in a row came to nothing, as far as Jobs remember."""
    served = observed.pointer.generation if observed.pointer else 0
    left_on_purpose = rollbacks.carried_out(observed)
    return sum(
        not job.active and job.generation > served and not (job.succeeded and left_on_purpose) for job in observed.jobs
    )


def next_attempt_at(observed: Observed, spec: Spec) -> float:
    """Return the Unix time in seconds before which no rebuild starts by itself."""
    flipped = observed.pointer.flipped_at if observed.pointer else 0.0
    last = max([flipped, *(job.finished_at or job.created_at for job in observed.jobs)])
    failures = failed_attempts(observed)
    interval = float(spec.rebuild.min_interval_seconds)
    if failures:
        interval = min(BACKOFF_MAX_S, max(interval, _INTERVAL_AFTER_FAILURE_MIN_S) * 2.0**failures)
    return last + interval


def plan_rollback(observed: Observed, spec: Spec, now: float) -> MovePointer | None:
    """Go back where a pod refuses what is pointed to, where one cannot bear it, or where somebody asked for it."""
    target = (
        _before_refusal(observed, now)
        or _before_crash(observed, spec, now)
        or rollbacks.pointer_asked_for(observed, spec, now)
    )
    if target is None:
        return None
    found = observed.children[CONFIG_MAP, names.pointer_config_map(observed.buffer.name)]
    return MovePointer(target, found["metadata"]["resourceVersion"])


def _before_refusal(observed: Observed, now: float) -> Pointer | None:
    """What the refusing pod serves, where its manifest's digest is known."""
    refused = current_refusal(observed)
    service = refused[0].service if refused else None
    if service is None or observed.pointer is None or service.generation == observed.pointer.generation:
        return None
    return pointer_back_to(observed, service.generation, now)


def _before_crash(observed: Observed, spec: Spec, now: float) -> Pointer | None:
    if crashing_since_flip(observed) is None:
        return None
    return pointer_back_to(observed, next(iter(rollback_targets(observed, spec)), 0), now)


def plan_rebuild(observed: Observed, spec: Spec, image: str, now: float) -> StartRebuild | None:
    """Start a rebuild where there is a reason, nothing is under way and the pause is over.

    The pointer must have been recorded in the status first: a later rollback needs to know the generation before.
    """
    pointer = observed.pointer
    if pointer is None or active_job(observed) or behind(observed):
        return None
    if observed.buffer.status.get("index", {}).get("revision") != pointer.revision:
        return None
    found = _reason(observed, spec, now)
    if found is None:
        return None
    pod, trigger = found
    generation = highest_generation(observed) + 1
    cause = Cause(str(trigger.kind), trigger.message, trigger.request)
    searched_on = pod.service.backend.active if pod.service else "cpu"
    job = rebuild_job(observed.buffer, spec, image, generation, cause, pointer.revision, searched_on)
    return StartRebuild(pod.ip, generation, trigger.message, job)


def _reason(observed: Observed, spec: Spec, now: float) -> tuple[PodView, Trigger] | None:
    """Return the pod to export from and why."""
    by_hand = triggers.requested(observed)
    paused = now < next_attempt_at(observed, spec)
    for pod in observed.serving:
        if pod.service is None:
            continue
        if by_hand and pod.service.size:  # of nothing no index can be built: the request waits
            return pod, by_hand
        if paused or rollbacks.holds_rebuilds(observed, spec, pod.service):
            continue
        trigger = triggers.automatic(observed, spec, pod.service, now)
        if trigger:
            return pod, trigger
    return None


def next_rebuild(observed: Observed, spec: Spec, now: float) -> Json:
    """Return ``status.nextRebuild``: what has a reason and has to wait, else the next point of the schedule."""
    at = next_attempt_at(observed, spec)
    for pod in observed.serving if active_job(observed) is None else ():
        if pod.service is None or rollbacks.holds_rebuilds(observed, spec, pod.service):
            return {}
        trigger = triggers.automatic(observed, spec, pod.service, now) if now < at else None
        if trigger:
            return {"at": timestamp(at), "reason": str(trigger.kind)}
    if spec.rebuild.schedule is None:
        return {}
    return {"at": timestamp(next_point(spec.rebuild.schedule, now)), "reason": str(TriggerKind.SCHEDULE)}


def waiting_since(observed: Observed, now: float) -> float:
    """Return the Unix time in seconds since when a rebuild has waited for its turn: now where it has not."""
    since: str = observed.buffer.status.get("rebuild", {}).get("waitingSince", "")
    return parse_timestamp(since) if since else now


def rebuild_status(observed: Observed, now: float, *, queued: bool) -> Json:
    """Return ``status.rebuild``; ``queued`` is whether a rebuild waits for its turn among all buffers."""
    spec, job, request = observed.buffer.spec, active_job(observed), triggers.met_request(observed)
    held = spec is not None and any(
        rollbacks.holds_rebuilds(observed, spec, pod.service) for pod in observed.serving if pod.service
    )
    return {
        "lastGeneration": highest_generation(observed),
        "failedAttempts": failed_attempts(observed),
        **({"job": job.name} if job else {}),
        **triggers.remembered(observed),
        **({"request": request} if request else {}),
        **(triggers.schedule_status(observed, spec, now) if spec else {}),
        **({"waitingSince": timestamp(waiting_since(observed, now))} if queued else {}),
        **({"held": True} if held else {}),
    }
