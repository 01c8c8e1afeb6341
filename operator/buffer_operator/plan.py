"""The plan: from what was observed to the actions that bring it nearer to what is wanted. Pure.

Invariants: nothing is planned against a spec that is not valid, against a buffer that is being deleted, or against
objects of somebody else; the pointer is never applied, only created where it is missing and moved by rebuilds and
rollbacks; when all is as wanted the plan is empty.
"""

from __future__ import annotations

from buffer_operator import drift
from buffer_operator.actions import Action, Apply, CreatePointer, CreateTokens, MovePointer, PokePod
from buffer_operator.builders import access, services
from buffer_operator.builders.metadata import stamped
from buffer_operator.builders.pointer import pointer_config_map
from buffer_operator.builders.statefulset import CONTAINER, stateful_set
from buffer_operator.generations import pointer_to_recreate, went_backwards
from buffer_operator.kinds import CONFIG_MAP, SECRET, STATEFUL_SET, Json, kind_of
from buffer_operator.observed import Observed
from buffer_operator.rebuilds import plan_rebuild, plan_rollback
from buffer_operator.spec import Spec
from buffer_service.contract import names
from buffer_service.contract.pointer import Pointer


def plan(observed: Observed, default_image: str, now: float) -> list[Action]:
    """Return what to do, in order; ``now`` is Unix time in seconds."""
    buffer = observed.buffer
    if buffer.spec is None or buffer.deleting or foreign_children(observed):
        return []
    image = image_of(observed, buffer.spec, default_image)
    actions: list[Action] = []
    if (SECRET, names.token_secret(buffer.name)) not in observed.children:
        actions.append(CreateTokens())
    applies = [Apply(wanted) for wanted in _wanted(observed, buffer.spec, image) if _needs_apply(observed, wanted)]
    if observed.pointer is None or went_backwards(observed):
        return [*actions, _restored_pointer(observed), *applies]
    actions += [*applies, *_pokes(observed, observed.pointer)]
    follow_up = plan_rollback(observed, now) or plan_rebuild(observed, buffer.spec, image, now)
    return [*actions, follow_up] if follow_up else actions


def foreign_children(observed: Observed) -> list[str]:
    """Return the objects, as ``Kind name``, that have our names but belong to somebody else."""
    return sorted(
        f"{kind.name} {name}" for (kind, name), child in observed.children.items() if not observed.owns(child)
    )


def image_of(observed: Observed, spec: Spec, default_image: str) -> str:
    """Return the image of the data pods.

    Where the spec names none, a buffer keeps the image that it was created with: a new operator restarts no pod.
    """
    found = observed.children.get((STATEFUL_SET, observed.buffer.name))
    containers = found["spec"]["template"]["spec"]["containers"] if found else []
    running = next((container["image"] for container in containers if container["name"] == CONTAINER), None)
    return spec.image or running or observed.buffer.status.get("image") or default_image


def _wanted(observed: Observed, spec: Spec, image: str) -> list[Json]:
    buffer = observed.buffer
    wanted = [
        access.buffer_account(buffer),
        access.rebuild_account(buffer),
        access.rebuild_role(buffer),
        access.rebuild_binding(buffer),
        services.headless_service(buffer),
        services.client_service(buffer),
        stateful_set(buffer, spec, image, _claim_size(observed, spec)),
    ]
    return [stamped(one) for one in wanted]


def _restored_pointer(observed: Observed) -> Action:
    """Create the pointer where it is missing, replace it where it is no pointer."""
    pointer = pointer_to_recreate(observed)
    found = observed.children.get((CONFIG_MAP, names.pointer_config_map(observed.buffer.name)))
    if found is None:
        return CreatePointer(pointer_config_map(observed.buffer, pointer))
    return MovePointer(pointer, found["metadata"]["resourceVersion"])


def _claim_size(observed: Observed, spec: Spec) -> str:
    """The claim template of a StatefulSet that exists cannot be changed."""
    found = observed.children.get((STATEFUL_SET, observed.buffer.name))
    if found is None:
        return spec.persistence.size
    size: str = found["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    return size


def _needs_apply(observed: Observed, wanted: Json) -> bool:
    found = observed.children.get((kind_of(wanted), wanted["metadata"]["name"]))
    if found is None:
        return True
    return "deletionTimestamp" not in found["metadata"] and drift.differs(wanted, found)


def _pokes(observed: Observed, pointer: Pointer) -> list[Action]:
    return [
        PokePod(pod.name, pointer.revision)
        for pod in observed.pods
        if not pod.deleting and (pod.pointer_revision or "0") != str(pointer.revision)
    ]
