"""What reconciling can do to the world. Each action is safe to repeat and safe to be the last one before a crash."""

from __future__ import annotations

from dataclasses import dataclass, field

from buffer_operator.kube.kinds import Json, Kind
from buffer_service.contract.pointer import Pointer


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of an object that is the operator's alone."""

    manifest: Json

    def __str__(self) -> str:
        return f"apply {self.manifest['kind']} {self.manifest['metadata']['name']}"


@dataclass(frozen=True, slots=True)
class CreatePointer:
    """Create the pointer's ConfigMap; one that is there meanwhile stays as it is."""

    manifest: Json

    def __str__(self) -> str:
        return "create the pointer"


@dataclass(frozen=True, slots=True)
class CreateTokens:
    """Create the Secret with new random tokens; one that is there meanwhile stays as it is."""

    def __str__(self) -> str:
        return "create the tokens"


@dataclass(frozen=True, slots=True)
class MovePointer:
    """Move the pointer by compare-and-swap."""

    pointer: Pointer
    resource_version: str

    def __str__(self) -> str:
        return f"move the pointer to generation {self.pointer.generation}, revision {self.pointer.revision}"


@dataclass(frozen=True, slots=True)
class PokePod:
    """Annotate a pod with the pointer's revision, so that the kubelet refreshes what it has mounted."""

    pod: str
    revision: int

    def __str__(self) -> str:
        return f"poke {self.pod} for revision {self.revision}"


@dataclass(frozen=True, slots=True)
class StartRebuild:
    """Have the pod export, note the generation at the volume, then create the Job that builds it."""

    address: str
    generation: int
    why: str
    """For people, without a full stop."""
    job: Json = field(repr=False)

    def __str__(self) -> str:
        return f"export and rebuild generation {self.generation}: {self.why}"


@dataclass(frozen=True, slots=True)
class GrowClaim:
    """Ask for a larger volume, and note when."""

    claim: str
    size: str
    at: float
    """Unix time in seconds."""

    def __str__(self) -> str:
        return f"grow {self.claim} to {self.size}"


@dataclass(frozen=True, slots=True)
class NoteContent:
    """Note at the volume's claim what kind of store it holds."""

    claim: str
    content: str

    def __str__(self) -> str:
        return f"note at {self.claim} what it holds"


@dataclass(frozen=True, slots=True)
class OwnClaim:
    """Have the volume's claim go with the buffer, or no longer, if the claim is at this version."""

    claim: str
    resource_version: str
    owners: tuple[Json, ...] = field(repr=False)
    """All owners that it has afterwards."""
    owned: bool
    """Whether the buffer is among them."""

    def __str__(self) -> str:
        return f"have {self.claim} {'go with' if self.owned else 'outlive'} the buffer"


@dataclass(frozen=True, slots=True)
class OwnPod:
    """Make the buffer an owner of a pod beside its StatefulSet, or no longer, if the pod is at this version."""

    pod: str
    resource_version: str
    owners: tuple[Json, ...] = field(repr=False)
    """All owners that it has afterwards."""
    held: bool
    """Whether the buffer is among them."""
    template: str = field(repr=False)
    """Template to keep for a StatefulSet that is made anew; empty to keep none."""

    def __str__(self) -> str:
        return f"{'become' if self.held else 'be no longer'} an owner of {self.pod}"


@dataclass(frozen=True, slots=True)
class OrphanStatefulSet:
    """Delete the StatefulSet of this uid and leave its pods alone."""

    name: str
    uid: str

    def __str__(self) -> str:
        return f"delete StatefulSet {self.name} without its pods, to make it anew around them"


@dataclass(frozen=True, slots=True)
class EvictPod:
    """Restart the pod of this uid, as far as disruption budgets allow it."""

    pod: str
    uid: str
    why: str

    def __str__(self) -> str:
        return f"restart {self.pod}: {self.why}"


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete an object that is no longer asked for, if it is still the one of this uid."""

    kind: Kind
    name: str
    uid: str

    def __str__(self) -> str:
        return f"remove {self.kind.name} {self.name}"


VolumeAction = EvictPod | GrowClaim | NoteContent | OrphanStatefulSet | OwnClaim | OwnPod
Action = Apply | CreatePointer | CreateTokens | MovePointer | PokePod | Remove | StartRebuild | VolumeAction


def describe(action: Action) -> str:
    """Return what an action does, in a few words, without secrets."""
    return str(action)
