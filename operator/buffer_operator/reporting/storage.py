"""The verdict on the volume: the condition StorageHealthy. Pure; the first that holds is said."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from buffer_operator.kube.kinds import Json
from buffer_operator.observing.observed import Observed, VolumeView
from buffer_operator.planning.growth import maximum_reached
from buffer_operator.planning.volumes import Usage, usage_of
from buffer_operator.resource.conditions import Condition, Reason, Truth
from buffer_operator.resource.spec import AutoGrowth

_ALMOST_FULL: Final = Decimal("0.9")
"""Used share at which a volume that does not grow by itself is worth a warning."""
_FULL: Final = Decimal("0.98")


def judge_storage(observed: Observed, refused: Json | None) -> Condition:
    """Return the condition; ``refused`` is the growth that the storage did not allow."""
    volume = observed.volume
    if volume is None:
        return Condition(Truth.UNKNOWN, Reason.VOLUME_PENDING, "There is no volume claim yet.")
    if volume.phase == "Lost":
        text = f"The volume of {volume.name} is gone. Restore a backup into a new buffer."
        return Condition(Truth.FALSE, Reason.VOLUME_LOST, text)
    if volume.deleting:
        text = f"{volume.name} was deleted and goes with its pod, which is left as it is for that: take a backup."
        return Condition(Truth.FALSE, Reason.VOLUME_DELETED, text)
    if volume.phase != "Bound":
        return Condition(Truth.UNKNOWN, Reason.VOLUME_PENDING, f"{volume.name} waits for its volume.")
    usage = usage_of(observed)
    return (
        _resize_failed(volume, refused)
        or _full(observed, volume, usage)
        or _resizing(volume)
        or _unwritable(observed)
        or Condition(Truth.TRUE, Reason.VOLUME_HEALTHY, f"{volume.name} has {volume.actual}.")
    )


def _resize_failed(volume: VolumeView, refused: Json | None) -> Condition | None:
    if refused:
        text = f"{volume.name} cannot grow from {volume.requested} to {refused['size']}: {refused['message']}"
        return Condition(Truth.FALSE, Reason.RESIZE_REFUSED, text)
    if volume.resize_trouble:
        text = f"{volume.name} cannot be resized to {volume.requested}: {volume.resize_trouble}"
        return Condition(Truth.FALSE, Reason.RESIZE_REFUSED, text)
    return None


def _full(observed: Observed, volume: VolumeView, usage: Usage | None) -> Condition | None:
    spec = observed.buffer.spec
    if usage is None or spec is None:
        return None
    growth = spec.persistence.auto_growth
    if usage.share >= _FULL:
        text = f"{volume.name} is full: writes are refused, reads go on. {_way_out(volume, growth)}"
        return Condition(Truth.FALSE, Reason.VOLUME_FULL, text)
    if volume.resizing:
        return None
    if growth is not None and usage.share >= Decimal(growth.threshold) and maximum_reached(volume, growth):
        text = f"{volume.name} is fuller than {growth.threshold} and may not grow any more. {_way_out(volume, growth)}"
        return Condition(Truth.FALSE, Reason.MAXIMUM_REACHED, text)
    if growth is None and usage.share >= _ALMOST_FULL:
        text = f"{volume.name} is fuller than {_ALMOST_FULL}. {_way_out(volume, growth)}"
        return Condition(Truth.FALSE, Reason.VOLUME_ALMOST_FULL, text)
    return None


def _way_out(volume: VolumeView, growth: AutoGrowth | None) -> str:
    if volume.resizing:
        return f"It is being resized to {volume.requested}."
    if growth is None:
        return "Raise persistence.size, or set persistence.autoGrowth."
    if maximum_reached(volume, growth):
        return f"Raise persistence.autoGrowth.maximum, which is {growth.maximum}."
    return "It grows as soon as persistence.autoGrowth.coolDownSeconds have passed."


def _resizing(volume: VolumeView) -> Condition | None:
    if volume.file_system_waits_since is not None:
        text = (
            f"{volume.name} has {volume.requested}; the node resizes its file system, if need be when the pod starts."
        )
        return Condition(Truth.TRUE, Reason.FILE_SYSTEM_RESIZE_PENDING, text)
    if volume.resizing:
        text = f"{volume.name} is being resized from {volume.actual} to {volume.requested}."
        return Condition(Truth.TRUE, Reason.RESIZING, text)
    return None


def _unwritable(observed: Observed) -> Condition | None:
    for pod in observed.serving:
        if pod.service and not pod.service.store.writable:
            why = pod.service.store.reason.rstrip(".")
            return Condition(Truth.FALSE, Reason.STORE_UNWRITABLE, f"{pod.name} refuses writes: {why}.")
    return None
