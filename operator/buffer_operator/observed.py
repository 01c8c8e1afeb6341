"""What one look at the world found, typed: the only input of planning and of the status, besides the time.

Everything here is immutable and read from the API server or a pod in this visit; nothing comes from a cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from buffer_operator.conditions import Reason
from buffer_operator.kinds import Json, Kind
from buffer_operator.spec import Spec
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import ServiceStatus


@dataclass(frozen=True, slots=True)
class Buffer:
    """One ExperienceBuffer."""

    namespace: str
    name: str
    uid: str
    generation: int
    deleting: bool
    spec: Spec | None
    """None where it is not valid; ``invalid`` says why."""
    invalid: str
    status: Json
    resource: Json
    """As it was read, for writing the status at this resourceVersion."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not become ready."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod of the StatefulSet."""

    name: str
    ip: str
    ready: bool
    deleting: bool
    pointer_revision: str
    """The annotation; empty where it was never poked."""
    trouble: Trouble | None
    service: ServiceStatus | None
    """What the process in it says; None where it is not ready or does not answer."""
    silence: str
    """Why ``service`` is None although the pod is ready."""


@dataclass(frozen=True, slots=True)
class JobView:
    """One rebuild Job."""

    name: str
    generation: int
    created_at: float
    finished_at: float | None
    """Unix time in seconds; None while it is active."""
    succeeded: bool
    message: str
    """Why it failed, with the last words of its pod."""

    @property
    def active(self) -> bool:
        """Whether it may still start or run a pod."""
        return self.finished_at is None


@dataclass(frozen=True, slots=True)
class Observed:
    """One buffer and all that belongs to it."""

    buffer: Buffer
    children: dict[tuple[Kind, str], Json]
    """Objects found under the names that the buffer uses, whoever owns them. Secrets without their data."""
    pods: tuple[PodView, ...]
    jobs: tuple[JobView, ...]
    """By generation, lowest first."""
    last_generation: int
    """Highest generation that the volume's claim remembers; 0 where there is none."""
    pointer: Pointer | None
    """None where the ConfigMap is absent or holds none; ``pointer_error`` tells the two apart."""
    pointer_error: str
    admin_token: str = field(repr=False)
    """Empty where there is no Secret yet."""

    @property
    def serving(self) -> tuple[PodView, ...]:
        """The pods that are ready and say what they serve."""
        return tuple(pod for pod in self.pods if pod.ready and pod.service is not None)

    def owns(self, child: Json) -> bool:
        """Whether the buffer is the controller of this object."""
        owners = child["metadata"].get("ownerReferences", [])
        return any(owner.get("controller") and owner.get("uid") == self.buffer.uid for owner in owners)
