"""Conditions of a buffer: their types, every reason there is, and how a list of them changes.

Polarity is positive: True is the good news. A condition's lastTransitionTime moves only with its status.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from buffer_operator.kube.kinds import Json


class ConditionType(StrEnum):
    """What is known about a buffer, in the order in which it is listed."""

    READY = "Ready"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    INDEX_CURRENT = "IndexCurrent"
    REBUILD_SUCCEEDED = "RebuildSucceeded"
    POINTER_PROPAGATED = "PointerPropagated"
    STORAGE_HEALTHY = "StorageHealthy"
    PAUSED = "Paused"


class Truth(StrEnum):
    """Status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Every reason that a condition or an event of a buffer can have."""

    NOT_OBSERVED = "NotObserved"
    INVALID_SPEC = "InvalidSpec"
    NAME_TAKEN = "NameTaken"
    REFUSED_BY_API = "RefusedByApi"

    ALL_READY = "AllReplicasReady"
    CREATING = "Creating"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    CRASHING = "Crashing"
    STARTING = "Starting"
    NODE_LOST = "NodeLost"
    TERMINATING = "Terminating"
    SECRET_UNUSABLE = "SecretUnusable"  # noqa: S105 - the name of a reason
    GPU_UNUSABLE = "GpuUnusable"
    SUSPENDED = "Suspended"

    SERVING = "Serving"
    READ_ONLY = "ReadOnly"
    NO_READY_POD = "NoReadyPod"

    SETTLED = "Settled"
    ROLLING_OUT = "RollingOut"
    REBUILDING = "Rebuilding"
    SWITCHING = "Switching"
    SUSPENDING = "Suspending"

    SERVED = "Served"
    NO_GENERATION = "NoGeneration"
    GENERATION_REFUSED = "GenerationRefused"
    ROLLED_BACK = "RolledBack"
    CANARY_FAILED = "CanaryFailed"
    POINTER_UNREADABLE = "PointerUnreadable"
    PODS_SILENT = "PodsSilent"

    PROPAGATED = "Propagated"
    PROPAGATING = "Propagating"
    PROPAGATION_TIMED_OUT = "PropagationTimedOut"

    NO_REBUILD_YET = "NoRebuildYet"
    REBUILT = "Rebuilt"
    REBUILD_FAILED = "RebuildFailed"
    EXPORT_FAILED = "ExportFailed"
    QUALITY_TOO_LOW = "QualityTooLow"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    WAITING_FOR_TURN = "WaitingForTurn"
    REBUILD_STARTED = "RebuildStarted"
    ROLLBACK_REFUSED = "RollbackRefused"

    VOLUME_UNUSABLE = "VolumeUnusable"
    VOLUME_HEALTHY = "VolumeHealthy"
    VOLUME_PENDING = "VolumePending"
    VOLUME_LOST = "VolumeLost"
    VOLUME_DELETED = "VolumeDeleted"
    VOLUME_FULL = "VolumeFull"
    VOLUME_ALMOST_FULL = "VolumeAlmostFull"
    RESIZING = "Resizing"
    FILE_SYSTEM_RESIZE_PENDING = "FileSystemResizePending"
    RESIZE_REFUSED = "ResizeRefused"
    MAXIMUM_REACHED = "MaximumReached"
    STORE_UNWRITABLE = "StoreUnwritable"

    PAUSED = "Paused"
    ACTIVE = "Active"
    CHANGES_PENDING = "ChangesPending"
    NOTHING_PENDING = "NothingPending"

    BACKEND_FELL_BACK = "BackendFellBack"


@dataclass(frozen=True, slots=True)
class Condition:
    """What is true now and why; ``message`` is a sentence for people."""

    status: Truth
    reason: Reason
    message: str


Conditions = dict[ConditionType, Condition]


def timestamp(now: float) -> str:
    """Return Unix time in seconds as the API writes it, in whole seconds."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> float:
    """Return Unix time in seconds of a time that the API wrote."""
    return datetime.fromisoformat(text).timestamp()


def unobserved() -> Conditions:
    """Return every condition as unknown: the state before the first look."""
    message = "The operator has not looked at this buffer yet."
    return {kind: Condition(Truth.UNKNOWN, Reason.NOT_OBSERVED, message) for kind in ConditionType}


def previous(existing: list[Json], kind: ConditionType) -> Json | None:
    """Return the condition of that type as it was written last."""
    return next((entry for entry in existing if entry.get("type") == kind), None)


def kept(existing: list[Json], kind: ConditionType) -> Condition | None:
    """Return the condition of that type as it was written last; None where its reason is of another version."""
    entry = previous(existing, kind)
    if entry is None:
        return None
    try:
        return Condition(Truth(entry["status"]), Reason(entry["reason"]), entry["message"])
    except ValueError:
        return None


def written(existing: list[Json], current: Conditions, generation: int, now: float) -> list[Json]:
    """Return the list to write: every type, in order, each for this generation of the spec."""
    entries = []
    for kind in ConditionType:
        condition, before = current[kind], previous(existing, kind)
        unchanged = before is not None and before.get("status") == condition.status
        entries.append(
            {
                "type": str(kind),
                "status": str(condition.status),
                "reason": str(condition.reason),
                "message": condition.message,
                "observedGeneration": generation,
                "lastTransitionTime": before["lastTransitionTime"] if before and unchanged else timestamp(now),
            }
        )
    return entries
