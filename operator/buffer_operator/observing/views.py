"""From raw pods, Jobs and claims to the few facts about them that matter. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from buffer_operator.kube import labels
from buffer_operator.kube.drift import quantity
from buffer_operator.kube.kinds import Json
from buffer_operator.observing.observed import JobView, PodView, Trouble, VolumeView
from buffer_operator.resource.conditions import Reason, parse_timestamp
from buffer_service.contract.status import ServiceStatus

_IMAGE_REASONS: Final = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
)
_RESIZE_TROUBLE: Final = ("ControllerResizeError", "NodeResizeError")
_LAST_WORDS_MAX: Final = 400
_CRASH_LOOP: Final = "CrashLoopBackOff"


def pod_view(pod: Json) -> PodView:
    """Return what matters about a data pod, before it was asked anything."""
    status, metadata = pod.get("status", {}), pod["metadata"]
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        ip=status.get("podIP", ""),
        ready=_condition(status, "Ready").get("status") == "True" and "deletionTimestamp" not in metadata,
        deleting="deletionTimestamp" in metadata,
        created_at=parse_timestamp(metadata["creationTimestamp"]),
        revision=metadata["labels"].get("controller-revision-hash", ""),
        owners=tuple(metadata.get("ownerReferences", [])),
        template=metadata.get("annotations", {}).get(labels.TEMPLATE, ""),
        spec=pod["spec"],
        pointer_revision=metadata.get("annotations", {}).get(labels.POINTER_REVISION, ""),
        trouble=_trouble(status, pod["spec"].get("nodeName", "")),
        crashed_at=_crashed_at(status),
        service=None,
        silence="",
    )


def with_answer(pod: PodView, service: ServiceStatus | None, silence: str) -> PodView:
    """Return the pod with what it said about itself."""
    return replace(pod, service=service, silence=silence)


def volume_view(claim: Json | None) -> VolumeView | None:
    """Return what matters about a volume claim."""
    if claim is None:
        return None
    metadata, status = claim["metadata"], claim.get("status", {})
    annotations = metadata.get("annotations", {})
    phase = status.get("phase", "Pending")
    requested = claim["spec"]["resources"]["requests"]["storage"]
    actual = status.get("capacity", {}).get("storage", "")
    waits = _condition(status, "FileSystemResizePending")
    troubles = (_condition(status, kind) for kind in _RESIZE_TROUBLE)
    return VolumeView(
        name=metadata["name"],
        phase=phase,
        deleting="deletionTimestamp" in metadata,
        requested=requested,
        actual=actual,
        resizing=phase == "Bound" and (quantity(requested) or 0) > (quantity(actual) or 0),
        file_system_waits_since=parse_timestamp(waits["lastTransitionTime"]) if waits.get("status") == "True" else None,
        resize_trouble=next((found.get("message", "") for found in troubles if found.get("status") == "True"), ""),
        grown_at=float(_number(annotations.get(labels.GROWN_AT, ""))),
        content=annotations.get(labels.CONTENT, ""),
        last_generation=_number(annotations.get(labels.LAST_GENERATION, "")),
        owners=tuple(metadata.get("ownerReferences", [])),
        resource_version=metadata["resourceVersion"],
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def job_views(jobs: Iterable[Json], pods: Iterable[Json]) -> tuple[JobView, ...]:
    """Return the rebuild Jobs by generation; ``pods`` are those of all of them."""
    last_words = {pod["metadata"]["labels"].get("batch.kubernetes.io/job-name", ""): _last_words(pod) for pod in pods}
    views = [_job_view(job, last_words.get(job["metadata"]["name"], "")) for job in jobs]
    return tuple(sorted((view for view in views if view is not None), key=lambda view: view.generation))


def _job_view(job: Json, last_words: str) -> JobView | None:
    metadata, status = job["metadata"], job.get("status", {})
    annotations = metadata.get("annotations", {})
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
        failure=failed.get("reason", ""),
        trigger=annotations.get(labels.TRIGGER, ""),
        trigger_message=annotations.get(labels.TRIGGER_MESSAGE, ""),
        request=annotations.get(labels.REBUILD, ""),
    )


def _condition(status: Json, kind: str) -> Json:
    return next((entry for entry in status.get("conditions", []) if entry.get("type") == kind), {})


def _is(status: Json, kind: str, wanted: str) -> bool:
    return bool(_condition(status, kind).get("status") == wanted)


def _trouble(status: Json, node: str) -> Trouble | None:
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return Trouble(Reason.UNSCHEDULABLE, scheduled.get("message", "No node was found for the pod."))
    if _is(status, "Ready", "False") and _is(status, "ContainersReady", "True"):
        # Only the control plane sets the one without the other, for a kubelet that has fallen silent.
        return Trouble(Reason.NODE_LOST, f"Node {node} does not report. Where its volume is there, the pod waits.")
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason in _IMAGE_REASONS:
            return Trouble(Reason.IMAGE_UNAVAILABLE, f"{reason}: {waiting.get('message', container.get('image', ''))}")
        if reason == _CRASH_LOOP:
            ended = container.get("lastState", {}).get("terminated", {})
            why = ended.get("message", "").strip() or f"exit status {ended.get('exitCode')}"
            return Trouble(Reason.CRASHING, f"{waiting.get('message', reason)}: {why[-_LAST_WORDS_MAX:]}")
    return None


def _crashed_at(status: Json) -> float:
    ends = [
        container.get("lastState", {}).get("terminated", {}).get("finishedAt")
        for container in status.get("containerStatuses", [])
        if container.get("state", {}).get("waiting", {}).get("reason") == _CRASH_LOOP
    ]
    return max((parse_timestamp(end) for end in ends if end), default=0.0)


def _last_words(pod: Json) -> str:
    for container in pod.get("status", {}).get("containerStatuses", []):
        message: str = container.get("state", {}).get("terminated", {}).get("message", "").strip()
        if message:
            return message[-_LAST_WORDS_MAX:]
    return ""
