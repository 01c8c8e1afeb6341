"""The plan: from what was observed to the actions that bring it nearer to what is wanted. Pure.

Invariants: nothing is planned against a spec that is not valid, against a buffer that is being deleted, or against
objects of somebody else; the pointer is never applied, only created where it is missing and moved by rebuilds and
rollbacks; when all is as wanted the plan is empty.
"""

from __future__ import annotations

from buffer_operator.builders import access, services
from buffer_operator.builders.metadata import stamped
from buffer_operator.builders.pointer import pointer_config_map
from buffer_operator.builders.statefulset import CONTAINER, stateful_set
from buffer_operator.kube import drift
from buffer_operator.kube.kinds import CONFIG_MAP, SECRET, STATEFUL_SET, Json, kind_of
from buffer_operator.observing.observed import Observed
from buffer_operator.planning.actions import Action, Apply, CreatePointer, CreateTokens, MovePointer, PokePod
from buffer_operator.planning.adoption import plan_adoption, unusable_content
from buffer_operator.planning.generations import pointer_to_recreate, went_backwards
from buffer_operator.planning.growth import plan_growth
from buffer_operator.planning.optional import optional_objects, plan_removals
from buffer_operator.planning.pinning import pin_template
from buffer_operator.planning.rebuilds import plan_rebuild, plan_rollback
from buffer_operator.planning.recreation import plan_recreation, template_size
from buffer_operator.planning.restarts import Restart, pending_restarts, plan_evictions
from buffer_operator.planning.suspension import paused_by
from buffer_operator.planning.volumes import claim_size
from buffer_operator.resource.spec import Spec
from buffer_service.contract import names
from buffer_service.contract.pointer import Pointer


def plan(observed: Observed, default_image: str, now: float) -> list[Action]:
    """Return what to do, in order; ``now`` is Unix time in seconds."""
    return [] if paused_by(observed.buffer) is not None else changes(observed, default_image, now)


def changes(observed: Observed, default_image: str, now: float) -> list[Action]:
    """Return what there is to do, whether it is paused or not."""
    buffer = observed.buffer
    if buffer.spec is None or _must_not_be_touched(observed):
        return []
    image = image_of(observed, buffer.spec, default_image)
    growth = plan_growth(observed, buffer.spec, now)
    actions: list[Action] = [growth] if growth else []
    if not buffer.spec.auth.secret_name and (SECRET, names.token_secret(buffer.name)) not in observed.children:
        actions.append(CreateTokens())
    applies = [Apply(wanted) for wanted in _wanted(observed, buffer.spec, image) if _needs_apply(observed, wanted)]
    if observed.pointer is None or went_backwards(observed):
        return [*actions, _restored_pointer(observed), *applies]
    actions += [*applies, *plan_removals(observed, buffer.spec)]
    actions += [*_around_pods(observed, now), *_pokes(observed, observed.pointer)]
    follow_up: Action | None = plan_rollback(observed, buffer.spec, now)
    if follow_up is None and not buffer.spec.suspended:
        follow_up = plan_rebuild(observed, buffer.spec, image, now)
    return [*actions, follow_up] if follow_up else actions


def restarts_due(observed: Observed, default_image: str, now: float) -> list[Restart]:
    """Return the pods that are about to be restarted, and why."""
    spec = observed.buffer.spec
    if spec is None or _must_not_be_touched(observed):
        return []
    wanted = _stateful_set(observed, spec, image_of(observed, spec, default_image))
    return pending_restarts(observed, wanted, now)


def _keeps_its_pod(observed: Observed) -> bool:
    """Whether the volume was deleted and is there only for as long as the pod uses it."""
    return observed.volume is not None and observed.volume.deleting and bool(observed.pods)


def _must_not_be_touched(observed: Observed) -> bool:
    return observed.buffer.deleting or bool(foreign_children(observed)) or bool(unusable_content(observed))


def _around_pods(observed: Observed, now: float) -> list[Action]:
    if _keeps_its_pod(observed):
        return []
    return [*plan_adoption(observed), *plan_recreation(observed), *plan_evictions(observed, now)]


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
        *optional_objects(observed, spec),
        _stateful_set(observed, spec, image),
    ]
    return [stamped(one) for one in wanted]


def _restored_pointer(observed: Observed) -> Action:
    """Create the pointer where it is missing, replace it where it is no pointer."""
    pointer = pointer_to_recreate(observed)
    found = observed.children.get((CONFIG_MAP, names.pointer_config_map(observed.buffer.name)))
    if found is None:
        return CreatePointer(pointer_config_map(observed.buffer, pointer))
    return MovePointer(pointer, found["metadata"]["resourceVersion"])


def _stateful_set(observed: Observed, spec: Spec, image: str) -> Json:
    """The claim template of a StatefulSet that exists cannot be changed."""
    found = observed.children.get((STATEFUL_SET, observed.buffer.name))
    size = template_size(found) if found else claim_size(observed, spec)
    return pin_template(observed, spec, image, stateful_set(observed.buffer, spec, image, size))


def _needs_apply(observed: Observed, wanted: Json) -> bool:
    found = observed.children.get((kind_of(wanted), wanted["metadata"]["name"]))
    if found is None:
        return True
    if "deletionTimestamp" in found["metadata"] or (kind_of(wanted) == STATEFUL_SET and _keeps_its_pod(observed)):
        return False
    return drift.differs(wanted, found)


def _pokes(observed: Observed, pointer: Pointer) -> list[Action]:
    return [
        PokePod(pod.name, pointer.revision)
        for pod in observed.pods
        if not pod.deleting and (pod.pointer_revision or "0") != str(pointer.revision)
    ]
