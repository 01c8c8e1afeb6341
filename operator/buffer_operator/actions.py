"""What reconciling can do to the world. Each action is safe to repeat and safe to be the last one before a crash."""

from __future__ import annotations

from dataclasses import dataclass, field

from buffer_operator.kinds import Json
from buffer_service.contract.pointer import Pointer


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of an object that is the operator's alone."""

    manifest: Json


@dataclass(frozen=True, slots=True)
class CreatePointer:
    """Create the pointer's ConfigMap; one that is there meanwhile stays as it is."""

    manifest: Json


@dataclass(frozen=True, slots=True)
class CreateTokens:
    """Create the Secret with new random tokens; one that is there meanwhile stays as it is."""


@dataclass(frozen=True, slots=True)
class MovePointer:
    """Move the pointer by compare-and-swap."""

    pointer: Pointer
    resource_version: str


@dataclass(frozen=True, slots=True)
class PokePod:
    """Annotate a pod with the pointer's revision, so that the kubelet refreshes what it has mounted."""

    pod: str
    revision: int


@dataclass(frozen=True, slots=True)
class StartRebuild:
    """Have the pod export, note the generation at the volume, then create the Job that builds it."""

    address: str
    generation: int
    job: Json = field(repr=False)


Action = Apply | CreatePointer | CreateTokens | MovePointer | PokePod | StartRebuild
