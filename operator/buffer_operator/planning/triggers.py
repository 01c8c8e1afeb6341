"""Why an index is to be rebuilt: what a pod says about it, the time, or somebody who asked. Pure.

A request by hand is an annotation with a token that was not seen before; it counts as met once a Job that carries the
token exists. A point of the schedule counts as met once a generation was pointed to after it, or where nothing had
changed; points that were missed collapse into the latest. Both are remembered in ``status.rebuild``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import Json
from buffer_operator.observing.observed import Observed
from buffer_operator.resource import schedule
from buffer_operator.resource.conditions import parse_timestamp, timestamp
from buffer_operator.resource.spec import Rebuild, Spec
from buffer_service.contract.status import ServiceStatus

RECALL_PAUSE_S: Final = 600.0
"""Where a rebuild has not raised the recall above its bound, the next one for that reason waits this long."""
_TOKEN_MAX: Final = 200


class TriggerKind(StrEnum):
    """What started a rebuild."""

    MANUAL = "Manual"
    RECALL = "Recall"
    TOMBSTONES = "Tombstones"
    DELTA = "Delta"
    OPERATIONS = "Operations"
    SCHEDULE = "Schedule"


@dataclass(frozen=True, slots=True)
class Trigger:
    """One reason for a rebuild."""

    kind: TriggerKind
    message: str
    """For people, without a full stop."""
    request: str = ""
    """The token of a request by hand."""


def requested(observed: Observed) -> Trigger | None:
    """Return the rebuild that somebody asked for and that has not been started."""
    token = request_token(observed.buffer.resource)
    if not token or token == met_request(observed):
        return None
    return Trigger(TriggerKind.MANUAL, "it was asked for by hand", token)


def automatic(observed: Observed, spec: Spec, service: ServiceStatus, now: float) -> Trigger | None:
    """Return the first reason that what a pod serves should be rebuilt, None where it need not."""
    if service.pending_operations == 0:
        return None
    for judge in _JUDGES:
        trigger = judge(spec.rebuild, service)
        if trigger is not None:
            return trigger
    return _low_recall(observed, spec.rebuild, service, now) or _due(observed, spec.rebuild, now)


def _operations(rebuild: Rebuild, service: ServiceStatus) -> Trigger | None:
    pending, bound = service.pending_operations, rebuild.every_operations
    text = f"{pending} operations since the watermark, the bound is {bound}"
    return Trigger(TriggerKind.OPERATIONS, text) if pending >= bound else None


def _delta(rebuild: Rebuild, service: ServiceStatus) -> Trigger | None:
    rows, bound = service.delta_rows, rebuild.delta_rows
    if bound is None or rows < bound:
        return None
    return Trigger(TriggerKind.DELTA, f"{rows} experiences outside the index, the bound is {bound}")


def _tombstones(rebuild: Rebuild, service: ServiceStatus) -> Trigger | None:
    gone, rows, share = service.tombstones, service.index_rows, rebuild.tombstone_share
    if share is None or gone == 0 or Decimal(gone) < Decimal(share) * rows:
        return None
    return Trigger(TriggerKind.TOMBSTONES, f"{gone} of {rows} rows have left, the bound is {share} of them")


_JUDGES: Final[tuple[Callable[[Rebuild, ServiceStatus], Trigger | None], ...]] = (_operations, _delta, _tombstones)


def _low_recall(observed: Observed, rebuild: Rebuild, service: ServiceStatus, now: float) -> Trigger | None:
    if rebuild.recall_below is None or service.recall is None or service.recall >= float(rebuild.recall_below):
        return None
    last = remembered(observed)
    if last.get("trigger") == TriggerKind.RECALL and now < parse_timestamp(last["startedAt"]) + RECALL_PAUSE_S:
        return None
    text = f"the recall@10 of live searches is {service.recall:.3f}, the bound is {rebuild.recall_below}"
    return Trigger(TriggerKind.RECALL, text)


def _due(observed: Observed, rebuild: Rebuild, now: float) -> Trigger | None:
    before = _rebuild_status(observed)
    if rebuild.schedule is None or before.get("schedule") != rebuild.schedule:
        return None
    point = schedule.last_point(rebuild.schedule, now)
    if point <= parse_timestamp(before["lastScheduleTime"]):
        return None
    return Trigger(TriggerKind.SCHEDULE, f"it was due at {timestamp(point)} by the schedule")


def schedule_status(observed: Observed, spec: Spec, now: float) -> Json:
    """Return what ``status.rebuild`` remembers of the schedule.

    An expression that was not there before begins now: points before it was written are not made up for.
    """
    expression = spec.rebuild.schedule
    if expression is None:
        return {}
    before, point = _rebuild_status(observed), schedule.last_point(expression, now)
    met = before.get("schedule") != expression or _met(observed, point)
    return {
        "schedule": expression,
        "lastScheduleTime": timestamp(point) if met else before["lastScheduleTime"],
    }


def _met(observed: Observed, point: float) -> bool:
    pointer = observed.pointer
    if pointer and pointer.reason == "rebuild" and pointer.flipped_at >= point:
        return True
    services = [pod.service for pod in observed.serving if pod.service]
    busy = any(job.active for job in observed.jobs)
    return bool(services) and not busy and all(service.pending_operations == 0 for service in services)


def request_token(resource: Json) -> str:
    """Return the token of the latest request by hand, empty where there was none."""
    token: str = resource.get("metadata", {}).get("annotations", {}).get(labels.REBUILD, "")
    return token[:_TOKEN_MAX]


def met_request(observed: Observed) -> str:
    """Return the token of the latest request by hand for which a Job was made."""
    asked = request_token(observed.buffer.resource)
    if asked and asked in (job.request for job in observed.jobs):
        return asked
    before: str = _rebuild_status(observed).get("request", "")
    return before


def remembered(observed: Observed) -> Json:
    """Return what started the latest rebuild, and when: from its Job, else from the status."""
    if observed.jobs:
        job = observed.jobs[-1]
        return {"trigger": job.trigger, "message": job.trigger_message, "startedAt": timestamp(job.created_at)}
    before = _rebuild_status(observed)
    return {name: before[name] for name in ("trigger", "message", "startedAt") if name in before}


def _rebuild_status(observed: Observed) -> Json:
    found: Json = observed.buffer.status.get("rebuild", {})
    return found
