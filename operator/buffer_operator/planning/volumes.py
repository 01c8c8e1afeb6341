"""The buffer's volume: how large it should be, how full it is, and how it is shown in the status. Pure.

Sizes are Kubernetes quantities as text where they go to or come from the API server, numbers of bytes in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from buffer_operator.kube.drift import quantity
from buffer_operator.kube.kinds import Json
from buffer_operator.observing.observed import Observed, VolumeView
from buffer_operator.resource.spec import Spec

_MEBIBYTE: Final = 1 << 20
_COARSE_SHARE: Final = 0.01
"""A change of the used bytes below this share of the volume is not worth a write of the status."""
_NO_SPACE: Final = "No space left on device"


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the file system of the volume is, as the pod sees it."""

    size_bytes: int
    used_bytes: int

    @property
    def share(self) -> Decimal:
        """Used share from 0 to 1."""
        return Decimal(self.used_bytes) / Decimal(self.size_bytes)


def size_of(text: str) -> Decimal:
    """Return the bytes of a quantity; 0 for what is none."""
    return quantity(text) or Decimal(0)


def in_mebibytes(size: Decimal) -> str:
    """Return a quantity of at least so many bytes, in whole mebibytes."""
    return f"{(size / _MEBIBYTE).to_integral_value(ROUND_CEILING)}Mi"


def claim_size(observed: Observed, spec: Spec) -> str:
    """Return the size that claims have to have: what the spec asks, or what the volume has where that is more."""
    volume = observed.volume
    if volume and size_of(volume.requested) > size_of(spec.persistence.size):
        return volume.requested
    return spec.persistence.size


def usage_of(observed: Observed) -> Usage | None:
    """Return how full the volume is; None while no pod says so.

    A pod that dies because it finds no space cannot say so itself: its volume counts as full.
    """
    for pod in observed.serving:
        store = pod.service.store if pod.service else None
        if store and store.volume_size_bytes > 0:
            return Usage(store.volume_size_bytes, store.volume_size_bytes - store.volume_free_bytes)
    volume = observed.volume
    if volume and volume.actual and any(pod.trouble and _NO_SPACE in pod.trouble.message for pod in observed.pods):
        size = int(size_of(volume.actual))
        return Usage(size, size)
    return None


def refused_growth(observed: Observed) -> Json | None:
    """Return the growth that was refused last as ``size``, ``at``, ``message``; None where nobody wants it any more."""
    volume, spec = observed.volume, observed.buffer.spec
    refused: Json | None = _entry_before(observed).get("refused")
    if refused is None or volume is None or spec is None:
        return None
    automatic = spec.persistence.auto_growth
    most = max(spec.persistence.size, automatic.maximum if automatic else "0", key=size_of)
    return refused if size_of(volume.requested) < size_of(refused["size"]) <= size_of(most) else None


def volume_entries(observed: Observed, refused: Json | None) -> list[Json]:
    """Return ``status.volumes``; ``refused`` is what the storage did not let grow, see ``refused_growth``."""
    volume = observed.volume
    if volume is None:
        return []
    entry: Json = {"name": volume.name, "requested": volume.requested, "phase": _shown_phase(volume)}
    if volume.actual:
        entry["actual"] = volume.actual
    if refused:
        entry["refused"] = refused
    used = _used_bytes(observed)
    return [entry | ({} if used is None else {"usedBytes": used})]


def _entry_before(observed: Observed) -> Json:
    entries: list[Json] = observed.buffer.status.get("volumes", [])
    return next((entry for entry in entries if observed.volume and entry["name"] == observed.volume.name), {})


def _shown_phase(volume: VolumeView) -> str:
    if volume.phase == "Bound" and volume.file_system_waits_since is not None:
        return "FileSystemResizePending"
    return "Resizing" if volume.resizing else volume.phase


def _used_bytes(observed: Observed) -> int | None:
    known: int | None = _entry_before(observed).get("usedBytes")
    usage = usage_of(observed)
    if usage is None or (known is not None and abs(usage.used_bytes - known) < _COARSE_SHARE * usage.size_bytes):
        return known
    return usage.used_bytes
