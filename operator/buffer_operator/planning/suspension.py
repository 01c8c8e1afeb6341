"""Buffers that stand still because somebody wants it so: suspended (no pod) or paused (nothing is applied). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from buffer_operator.kube import labels
from buffer_operator.observing.observed import Buffer, Observed
from buffer_operator.resource.conditions import Condition, Reason, Truth

_SHOWN_MAX: Final = 8
_SUSPENDED: Final = "The buffer is suspended: it has no pod and asks for no GPU; its volume is kept."


def paused_by(buffer: Buffer) -> str | None:
    """Return who paused the reconciliation and why, in the user's words; None where it is not paused."""
    annotations: dict[str, str] = buffer.resource["metadata"].get("annotations", {})
    words = annotations.get(labels.PAUSED)
    return None if words is None or words == "false" else words.strip()


def suspended(observed: Observed) -> Condition | None:
    """Return what Ready says of a buffer that is to have no pod; None where it is to have one."""
    spec = observed.buffer.spec
    if spec is None or not spec.suspended:
        return None
    if observed.pods:
        return Condition(Truth.FALSE, Reason.SUSPENDING, "The buffer is being suspended: its pod is ending.")
    return Condition(Truth.FALSE, Reason.SUSPENDED, _SUSPENDED)


def paused(observed: Observed, changes: Sequence[str]) -> Condition:
    """Return the condition Paused; ``changes`` is what would be done otherwise, in a few words each."""
    words = paused_by(observed.buffer)
    if words is None:
        return Condition(Truth.FALSE, Reason.ACTIVE, "What the spec asks for is applied.")
    who = f"Paused by the annotation {labels.PAUSED}" + (f" ({words.rstrip('.')})" if words else "")
    if not changes:
        return Condition(Truth.TRUE, Reason.NOTHING_PENDING, f"{who}. Nothing would be changed.")
    more = f", and {len(changes) - _SHOWN_MAX} more" if len(changes) > _SHOWN_MAX else ""
    return Condition(Truth.TRUE, Reason.CHANGES_PENDING, f"{who}. Would: {'; '.join(changes[:_SHOWN_MAX])}{more}.")
