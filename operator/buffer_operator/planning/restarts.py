"""Why a pod is about to be restarted, and the restarts that the operator itself brings about. Pure.

The StatefulSet replaces a pod whose template has changed. The operator evicts one only where nothing else would: when
its file system waits for a start, and when a rollout got stuck at a template that is wanted no longer. An eviction
respects disruption budgets; a StatefulSet's own rollout does not ask them, as everywhere in Kubernetes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from buffer_operator.builders.statefulset import CONTAINER
from buffer_operator.kube import labels
from buffer_operator.kube.drift import covers
from buffer_operator.kube.kinds import STATEFUL_SET, Json
from buffer_operator.observing.observed import Observed, PodView
from buffer_operator.planning.actions import EvictPod
from buffer_operator.planning.growth import plan_resize_restart


class RestartReason(StrEnum):
    """Every reason for which a pod is restarted."""

    IMAGE_CHANGED = "ImageChanged"
    SETTINGS_CHANGED = "SettingsChanged"
    RESOURCES_CHANGED = "ResourcesChanged"
    TEMPLATE_CHANGED = "PodTemplateChanged"
    FILE_SYSTEM_RESIZE = "FileSystemResize"
    ROLLOUT_STUCK = "RolloutStuck"


@dataclass(frozen=True, slots=True)
class Restart:
    """One pod that is about to be restarted."""

    pod: str
    reason: RestartReason
    message: str
    """What has changed, as a sentence."""


def pending_restarts(observed: Observed, wanted: Json, now: float) -> list[Restart]:
    """Return the pods that will be replaced by others; ``wanted`` is the StatefulSet that the spec asks for."""
    spec = observed.buffer.spec
    if spec is None or spec.suspended:
        return []
    evictions = {eviction.pod: eviction for eviction in plan_evictions(observed, now)}
    found = (_restart(observed, pod, wanted, evictions.get(pod.name)) for pod in observed.pods if not pod.deleting)
    return [restart for restart in found if restart]


def plan_evictions(observed: Observed, now: float) -> list[EvictPod]:
    """Restart the pods that nothing else would."""
    resize = plan_resize_restart(observed, now)
    return [resize] if resize else [_eviction(pod) for pod in observed.pods if _is_stuck(observed, pod)]


def _restart(observed: Observed, pod: PodView, wanted: Json, eviction: EvictPod | None) -> Restart | None:
    if eviction:
        stuck = _is_stuck(observed, pod)
        reason = RestartReason.ROLLOUT_STUCK if stuck else RestartReason.FILE_SYSTEM_RESIZE
        return Restart(pod.name, reason, f"{eviction.why}.")
    changed = _changed(pod, wanted["spec"]["template"])
    if not _will_be_replaced(observed, pod, wanted, bool(changed)):
        return None
    return Restart(pod.name, *(changed or (RestartReason.TEMPLATE_CHANGED, "its template has changed.")))


def _will_be_replaced(observed: Observed, pod: PodView, wanted: Json, differs: bool) -> bool:  # noqa: FBT001
    """Whether its template is another one, to be applied or applied.

    That a pod differs from its template proves nothing, as webhooks change pods: it only stands in where the
    StatefulSet's controller has not said yet what it makes of a change.
    """
    found = observed.children.get((STATEFUL_SET, observed.buffer.name))
    if found is None or "deletionTimestamp" in found["metadata"]:
        return False
    texts = [one["metadata"].get("annotations", {}).get(labels.TEMPLATE) for one in (wanted, found)]
    if texts[0] != texts[1] or not covers(wanted["spec"]["template"], found["spec"]["template"]):
        return True
    return _is_outdated(found, pod) if _is_seen(found) else differs


def _changed(pod: PodView, template: Json) -> tuple[RestartReason, str] | None:
    wanted, found = _container(template["spec"]), _container(pod.spec)
    if wanted["image"] != found.get("image"):
        return RestartReason.IMAGE_CHANGED, f"the image changes from {found.get('image')} to {wanted['image']}."
    differences = _settings(wanted, found)
    if differences:
        return RestartReason.SETTINGS_CHANGED, f"settings change: {', '.join(differences)}."
    if not covers(wanted.get("resources", {}), found.get("resources", {})):
        return RestartReason.RESOURCES_CHANGED, "requests or limits of the container change."
    return None


def _is_seen(stateful_set: Json) -> bool:
    seen: int = stateful_set.get("status", {}).get("observedGeneration", 0)
    return bool(seen >= stateful_set["metadata"].get("generation", 0))


def _is_outdated(stateful_set: Json, pod: PodView) -> bool:
    latest: str = stateful_set.get("status", {}).get("updateRevision", "")
    return bool(latest and pod.revision and pod.revision != latest)


def _is_stuck(observed: Observed, pod: PodView) -> bool:
    """Whether it waits at an old template for something that may never come.

    A StatefulSet can wait for such a pod to get ready before it goes on, also where the template was put right since.
    """
    found = observed.children.get((STATEFUL_SET, observed.buffer.name))
    if found is None or "deletionTimestamp" in found["metadata"] or not _is_seen(found):
        return False
    return not pod.ready and not pod.deleting and pod.trouble is not None and _is_outdated(found, pod)


def _eviction(pod: PodView) -> EvictPod:
    why = pod.trouble.message.rstrip(".") if pod.trouble else ""
    return EvictPod(pod.name, pod.uid, f"it is stuck at a template that is wanted no longer ({why})")


def _container(spec: Json) -> Json:
    containers: list[Json] = spec.get("containers", [])
    return next((one for one in containers if one["name"] == CONTAINER), {})


def _settings(wanted: Json, found: Json) -> list[str]:
    """Return the variables that differ, with both values; none of them is a secret."""
    before = {entry["name"]: entry.get("value") for entry in found.get("env", [])}
    after = {entry["name"]: entry.get("value") for entry in wanted.get("env", [])}
    return [
        f"{name} from {before.get(name, 'nothing')} to {after.get(name, 'nothing')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
