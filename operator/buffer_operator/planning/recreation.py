"""Making a StatefulSet anew around its running pods, with a larger claim template. Pure.

The claim template of a StatefulSet cannot be changed, and a claim that is made later has to be as large as the one that
has grown. So the StatefulSet is deleted without its pods and applied again. Each visit takes the next step from what it
observes, so a crash after any of them is harmless. The claim is never the StatefulSet's: it stays.

1. The buffer becomes an owner of the pods: should it be deleted between 2 and 3, they leave with it. They keep the
   template for the time in which there is no StatefulSet.
2. The StatefulSet of this uid is deleted with its pods orphaned.
3. It is applied again: the same template, so the pods are taken up as they are.
4. The buffer is no owner of the pods any more, once a StatefulSet is.
"""

from __future__ import annotations

from buffer_operator.builders.metadata import holder_reference
from buffer_operator.kube.kinds import STATEFUL_SET, Json
from buffer_operator.observing.observed import Buffer, Observed, PodView
from buffer_operator.planning.actions import Action, OrphanStatefulSet, OwnPod
from buffer_operator.planning.pinning import pinned_text
from buffer_operator.planning.volumes import size_of


def template_size(stateful_set: Json) -> str:
    """Return the size of claims that a StatefulSet makes."""
    size: str = stateful_set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    return size


def to_be_made_anew(observed: Observed) -> bool:
    """Whether the volume has outgrown the claim template."""
    found = observed.children.get((STATEFUL_SET, observed.buffer.name))
    volume = observed.volume
    if found is None or volume is None or volume.phase != "Bound":
        return False
    return size_of(volume.requested) > size_of(template_size(found))


def plan_recreation(observed: Observed) -> list[Action]:
    """Return the next step, nothing where there is none or where the last one has not come through yet."""
    found = observed.children.get((STATEFUL_SET, observed.buffer.name))
    if found is None or "deletionTimestamp" in found["metadata"]:
        return []
    uid = found["metadata"]["uid"]
    if not to_be_made_anew(observed):
        return [_released(observed.buffer, pod) for pod in observed.pods if _taken_up(observed.buffer, pod, uid)]
    if observed.volume is None or any(owner["uid"] == uid for owner in observed.volume.owners):
        return []  # as one of an earlier version did; it is applied without that first
    free = [pod for pod in observed.pods if not _held(observed.buffer, pod)]
    if free:
        return [_hold(observed.buffer, pod, pinned_text(observed)) for pod in free]
    return [OrphanStatefulSet(observed.buffer.name, uid)]


def _held(buffer: Buffer, pod: PodView) -> bool:
    return any(owner["uid"] == buffer.uid for owner in pod.owners)


def _taken_up(buffer: Buffer, pod: PodView, stateful_set_uid: str) -> bool:
    controlled = any(owner["uid"] == stateful_set_uid and owner.get("controller") for owner in pod.owners)
    return controlled and _held(buffer, pod)


def _hold(buffer: Buffer, pod: PodView, template: str) -> OwnPod:
    owners = (*pod.owners, holder_reference(buffer))
    return OwnPod(pod.name, pod.resource_version, owners, held=True, template=template)


def _released(buffer: Buffer, pod: PodView) -> OwnPod:
    owners = tuple(owner for owner in pod.owners if owner["uid"] != buffer.uid)
    return OwnPod(pod.name, pod.resource_version, owners, held=False, template="")
