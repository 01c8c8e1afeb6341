"""When a volume grows: because the spec asks for more, or because it is getting full. Pure.

The size that the claim asks for is the only memory of what automatic growth has reached: nothing is lost in a crash,
and a kept volume brings its size along. Growing comes first in every plan and its refusal stops nothing else.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from buffer_operator.observing.observed import Observed, VolumeView
from buffer_operator.planning.actions import EvictPod, GrowClaim
from buffer_operator.planning.volumes import claim_size, in_mebibytes, refused_growth, size_of, usage_of
from buffer_operator.resource.conditions import parse_timestamp
from buffer_operator.resource.spec import AutoGrowth, Spec

REFUSED_PAUSE_S: Final = 300.0
"""A growth that was refused is asked for again after so long."""
FILE_SYSTEM_PATIENCE_S: Final = 60.0
"""A node resizes the file system of a mounted volume by itself where it can; after so long it needs a start."""


def plan_growth(observed: Observed, spec: Spec, now: float) -> GrowClaim | None:
    """Ask for a larger volume where there is a reason, and it was not refused a moment ago."""
    volume = observed.volume
    if volume is None or volume.phase != "Bound" or volume.deleting:
        return None
    size = max(claim_size(observed, spec), automatic_size(observed, spec, now) or "0", key=size_of)
    if size_of(size) <= size_of(volume.requested) or _refused_lately(observed, size, now):
        return None
    return GrowClaim(volume.name, size, float(int(now)))


def automatic_size(observed: Observed, spec: Spec, now: float) -> str | None:
    """Return the size to grow to because the volume is getting full; None where there is no reason or no room to."""
    growth, volume, usage = spec.persistence.auto_growth, observed.volume, usage_of(observed)
    if growth is None or volume is None or usage is None or usage.share < Decimal(growth.threshold):
        return None
    if volume.resizing or now < volume.grown_at + growth.cool_down_seconds:
        return None
    stepped = in_mebibytes(_one_step_more(volume, growth))
    size = min(growth.maximum, stepped, key=size_of)
    return size if size_of(size) > size_of(volume.requested) else None


def maximum_reached(volume: VolumeView, growth: AutoGrowth) -> bool:
    """Whether automatic growth may not go on."""
    return size_of(volume.requested) >= size_of(growth.maximum)


def plan_resize_restart(observed: Observed, now: float) -> EvictPod | None:
    """Restart the pod where only its start lets the node resize the file system; once for each resize."""
    volume = observed.volume
    if volume is None or volume.file_system_waits_since is None:
        return None
    since = volume.file_system_waits_since
    for pod in observed.pods:
        if not pod.deleting and pod.created_at <= since and now >= since + FILE_SYSTEM_PATIENCE_S:
            return EvictPod(pod.name, pod.uid, "the file system of its volume can only be resized when it starts")
    return None


def _refused_lately(observed: Observed, size: str, now: float) -> bool:
    refused = refused_growth(observed)
    return refused is not None and refused["size"] == size and now < parse_timestamp(refused["at"]) + REFUSED_PAUSE_S


def _one_step_more(volume: VolumeView, growth: AutoGrowth) -> Decimal:
    size = size_of(volume.requested)
    if growth.step.endswith("%"):
        return size + size * Decimal(growth.step[:-1]) / 100
    return size + size_of(growth.step)
