"""From raw pods and Jobs to the few facts about them that matter. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from buffer_operator import labels
from buffer_operator.conditions import Reason, parse_timestamp
from buffer_operator.kinds import Json
from buffer_operator.observed import JobView, PodView, Trouble
from buffer_service.contract.status import ServiceStatus

_IMAGE_REASONS: Final = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
)
_LAST_WORDS_MAX: Final = 400


def pod_view(pod: Json) -> PodView:
    """Return what matters about a data pod, before it was asked anything."""
    status, metadata = pod.get("status", {}), pod["metadata"]
    return PodView(
        name=metadata["name"],
        ip=status.get("podIP", ""),
        ready=_condition(status, "Ready").get("status") == "True" and "deletionTimestamp" not in metadata,
        deleting="deletionTimestamp" in metadata,
        pointer_revision=metadata.get("annotations", {}).get(labels.POINTER_REVISION, ""),
        trouble=_trouble(status),
        service=None,
        silence="",
    )


def with_answer(pod: PodView, service: ServiceStatus | None, silence: str) -> PodView:
    """Return the pod with what it said about itself."""
    return replace(pod, service=service, silence=silence)


def job_views(jobs: Iterable[Json], pods: Iterable[Json]) -> tuple[JobView, ...]:
    """Return the rebuild Jobs by generation; ``pods`` are those of all of them."""
    last_words = {pod["metadata"]["labels"].get("batch.kubernetes.io/job-name", ""): _last_words(pod) for pod in pods}
    views = [_job_view(job, last_words.get(job["metadata"]["name"], "")) for job in jobs]
    return tuple(sorted((view for view in views if view is not None), key=lambda view: view.generation))


def _job_view(job: Json, last_words: str) -> JobView | None:
    metadata, status = job["metadata"], job.get("status", {})
    generation = metadata["labels"].get(labels.GENERATION, "")
    if not generation.isdecimal():
        return None
    failed, complete = _condition(status, "Failed"), _condition(status, "Complete")
    end = next((entry for entry in (failed, complete) if entry.get("status") == "True"), None)
    message = " ".join(part for part in (failed.get("message", ""), last_words) if part)
    return JobView(
        name=metadata["name"],
        generation=int(generation),
        created_at=parse_timestamp(metadata["creationTimestamp"]),
        finished_at=parse_timestamp(end["lastTransitionTime"]) if end else None,
        succeeded=end is complete and end is not None,
        message=message,
    )


def _condition(status: Json, kind: str) -> Json:
    return next((entry for entry in status.get("conditions", []) if entry.get("type") == kind), {})


def _trouble(status: Json) -> Trouble | None:
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return Trouble(Reason.UNSCHEDULABLE, scheduled.get("message", "No node was found for the pod."))
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason in _IMAGE_REASONS:
            return Trouble(Reason.IMAGE_UNAVAILABLE, f"{reason}: {waiting.get('message', container.get('image', ''))}")
        if reason == "CrashLoopBackOff":
            ended = container.get("lastState", {}).get("terminated", {})
            why = ended.get("message", "").strip() or f"exit status {ended.get('exitCode')}"
            return Trouble(Reason.CRASHING, f"{waiting.get('message', reason)}: {why[-_LAST_WORDS_MAX:]}")
    return None


def _last_words(pod: Json) -> str:
    for container in pod.get("status", {}).get("containerStatuses", []):
        message: str = container.get("state", {}).get("terminated", {}).get("message", "").strip()
        if message:
            return message[-_LAST_WORDS_MAX:]
    return ""
