"""Going back to an earlier generation because somebody asked for it. Pure.

The request is an annotation ``GENERATION@REVISION``: it holds only while the pointer has that revision. So it is
carried out at most once, a crash in between is caught up with, and one that a rebuild has overtaken does nothing. After
it was carried out, no rebuild starts by itself until one is asked for, or until the delta has filled half of its limit:
the generation that somebody went away from would otherwise come back at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import Json
from buffer_operator.observing.observed import Observed
from buffer_operator.planning.generations import pointer_back_to, rollback_targets
from buffer_operator.resource.conditions import timestamp
from buffer_operator.resource.spec import Spec
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import ServiceStatus

_REQUEST: Final = re.compile(r"([0-9]{1,18})@([0-9]{1,18})")
_TEXT_MAX: Final = 100
DELTA_SHARE: Final = 0.5
"""Share of ``index.deltaRowsMax`` from which rebuilds start again by themselves after a rollback by hand."""


@dataclass(frozen=True, slots=True)
class Request:
    """A rollback that somebody asks for."""

    generation: int
    revision: int


def requested(observed: Observed) -> Request | None:
    """Return what the annotation asks for, None where it is absent or says something else."""
    matched = _REQUEST.fullmatch(_annotation(observed))
    return Request(int(matched.group(1)), int(matched.group(2))) if matched else None


def carried_out(observed: Observed) -> bool:
    """Whether the pointer is where the request moved it."""
    asked, pointer = requested(observed), observed.pointer
    if asked is None or pointer is None:
        return False
    moved = (pointer.generation, pointer.revision, pointer.reason)
    return moved == (asked.generation, asked.revision + 1, "rollback")


def holds_rebuilds(observed: Observed, spec: Spec, service: ServiceStatus) -> bool:
    """Whether rebuilds wait to be asked for."""
    return carried_out(observed) and service.delta_rows < DELTA_SHARE * spec.index.delta_rows_max


def pointer_asked_for(observed: Observed, spec: Spec, now: float) -> Pointer | None:
    """Return where to move the pointer, None where nothing is asked for or it cannot be done."""
    asked, pointer = requested(observed), observed.pointer
    if asked is None or pointer is None or asked.revision != pointer.revision or _objection(observed, spec, asked):
        return None
    return pointer_back_to(observed, asked.generation, now)


def rollback_status(observed: Observed, spec: Spec, now: float) -> Json:
    """Return what became of the latest request, as ``status.rollback`` keeps it; empty where there was none.

    The verdict on a request is final: it is kept word for word while the annotation stays as it is.
    """
    before: Json = observed.buffer.status.get("rollback", {})
    text = _annotation(observed)
    if not text or observed.pointer is None or (before.get("request") == text and "result" in before):
        return before
    result, message = _verdict(observed, spec, observed.pointer)
    if not result:
        return before
    return {"request": text, "result": result, "message": message, "at": timestamp(now)}


def _verdict(observed: Observed, spec: Spec, pointer: Pointer) -> tuple[str, str]:
    asked = requested(observed)
    if asked is None:
        return "Refused", f"it is not of the form GENERATION@REVISION; the revision is {pointer.revision} now"
    if carried_out(observed):
        return "Done", f"the pointer was taken back to generation {asked.generation}"
    if asked.revision != pointer.revision:
        return "Refused", f"it was for revision {asked.revision} of the pointer, which has revision {pointer.revision}"
    objection = _objection(observed, spec, asked)
    return ("Refused", objection) if objection else ("", "")


def _objection(observed: Observed, spec: Spec, asked: Request) -> str:
    targets = rollback_targets(observed, spec)
    if asked.generation in targets:
        return ""
    current = observed.pointer.generation if observed.pointer else 0
    if asked.generation >= current:
        return f"generation {current} is pointed to, and only a rebuild leads forward"
    there = ", ".join(str(number) for number in targets) or "none"
    return f"generation {asked.generation} is not kept; those that are: {there}"


def _annotation(observed: Observed) -> str:
    text: str = observed.buffer.resource.get("metadata", {}).get("annotations", {}).get(labels.ROLLBACK_TO, "")
    return text.strip()[:_TEXT_MAX]
