"""What one look at the world found, typed: the only input of planning and of the status, besides the time.

Everything here is immutable and read from the API server or a pod in this visit; nothing comes from a cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from buffer_operator.kube.kinds import Json, Kind
from buffer_operator.resource.conditions import Reason
from buffer_operator.resource.spec import Spec
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
    uid: str
    resource_version: str
    ip: str
    ready: bool
    deleting: bool
    created_at: float
    """Unix time in seconds."""
    revision: str
    """Revision of the StatefulSet's template that it was made from."""
    owners: tuple[Json, ...]
    template: str
    """The template that it keeps for its StatefulSet while there is none; empty otherwise."""
    spec: Json
    pointer_revision: str
    """The annotation; empty where it was never poked."""
    trouble: Trouble | None
    crashed_at: float
    """Unix time in seconds at which it ended last, where it crashes again and again; 0 where it does not."""
    service: ServiceStatus | None
    """What the process in it says; None where it is not ready or does not answer."""
    silence: str
    """Why ``service`` is None although the pod is ready."""


@dataclass(frozen=True, slots=True)
class VolumeView:
    """The volume claim of the first pod. Sizes are quantities as the API server writes them."""

    name: str
    phase: str
    """``Pending``, ``Bound`` or ``Lost``."""
    deleting: bool
    """Whether it goes as soon as no pod uses it."""
    requested: str
    actual: str
    """Empty until there is a volume."""
    resizing: bool
    """Whether more was asked for than there is."""
    file_system_waits_since: float | None
    """Unix time in seconds since when a node has to resize the file system; None where none has to."""
    resize_trouble: str
    """Why the storage could not resize it, in its own words; empty where nothing is wrong."""
    grown_at: float
    """Unix time in seconds at which the operator asked for more last; 0 where it never has."""
    content: str
    """What kind of store it holds; empty where nobody has noted it."""
    last_generation: int
    """Highest generation that a rebuild was started for; 0 where there is none."""
    owners: tuple[Json, ...]
    """The objects with which it is removed."""
    resource_version: str


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
    failure: str
    """Why in the word of Kubernetes; empty where it has not failed."""
    trigger: str
    """What started it, one word; empty for a Job of an earlier version."""
    trigger_message: str
    request: str
    """The token of the request by hand that it answers; empty for all others."""

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
    volume: VolumeView | None
    """None where there is no claim."""
    pointer: Pointer | None
    """None where the ConfigMap is absent or holds none; ``pointer_error`` tells the two apart."""
    pointer_error: str
    admin_token: str = field(repr=False)
    """Empty where there is no Secret yet."""
    token_problem: str = ""
    """Why the Secret with the tokens cannot be used, a sentence; empty where it can, or where there is none yet."""
    knows_pod_monitors: bool = False
    """Whether the API server serves PodMonitors."""

    @property
    def last_generation(self) -> int:
        """Highest generation that the volume's claim remembers; 0 where there is none."""
        return self.volume.last_generation if self.volume else 0

    @property
    def serving(self) -> tuple[PodView, ...]:
        """The pods that are ready and say what they serve."""
        return tuple(pod for pod in self.pods if pod.ready and pod.service is not None)

    def owns(self, child: Json) -> bool:
        """Whether the buffer is the controller of this object."""
        return is_controlled_by(child, self.buffer.uid)


def is_controlled_by(child: Json, uid: str) -> bool:
    """Whether the object with this uid is the controller of another one."""
    owners = child["metadata"].get("ownerReferences", [])
    return any(owner.get("controller") and owner.get("uid") == uid for owner in owners)
