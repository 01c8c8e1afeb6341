"""The volume and its buffer: whether the one goes with the other, and whether a kept one fits another buffer. Pure.

``whenDeleted: Delete`` makes the buffer an owner of the claim, so that garbage collection removes both. It is not left
to the StatefulSet's own policy, which would remove the volume also when only the StatefulSet is deleted.

A store cannot be opened with another dimension, metric or backend. The note tells that before a pod is made that would
only crash; a volume without a note is told by the last words of that pod.
"""

from __future__ import annotations

from buffer_operator.builders.metadata import holder_reference
from buffer_operator.observing.observed import Observed
from buffer_operator.planning.actions import Action, NoteContent, OwnClaim
from buffer_operator.resource.spec import Spec
from buffer_service.contract.status import ServiceStatus


def plan_adoption(observed: Observed) -> list[Action]:
    """Have the claim go with the buffer or outlive it, and note what it holds, once a pod has said it."""
    volume, spec = observed.volume, observed.buffer.spec
    if volume is None or spec is None:
        return []
    others = tuple(owner for owner in volume.owners if owner["uid"] != observed.buffer.uid)
    owned, wanted = len(others) < len(volume.owners), spec.persistence.when_deleted == "Delete"
    actions: list[Action] = []
    if owned != wanted:
        owners = (*others, holder_reference(observed.buffer)) if wanted else others
        actions.append(OwnClaim(volume.name, volume.resource_version, owners, owned=wanted))
    services = (pod.service for pod in observed.serving if pod.service and not volume.content)
    return [*actions, *(NoteContent(volume.name, _content_of(service)) for service in services)]


def unusable_content(observed: Observed) -> str:
    """Return why the volume that is there is of no use to this buffer, as a sentence; empty where it is of use."""
    spec, volume = observed.buffer.spec, observed.volume
    if spec is None or volume is None or volume.content in ("", _content_wanted(spec)):
        return ""
    return (
        f"The kept volume {volume.name} holds a store of {volume.content}, the spec asks for {_content_wanted(spec)}: "
        "make the buffer with these again, give it another name, or delete the claim and what it holds."
    )


def _content_of(service: ServiceStatus) -> str:
    return _words(service.dimension, service.metric, service.store.backend)


def _content_wanted(spec: Spec) -> str:
    return _words(spec.embedding.dimension, spec.embedding.metric, spec.persistence.backend)


def _words(dimension: int, metric: str, backend: str) -> str:
    return f"dimension {dimension}, metric {metric}, backend {backend}"
