"""``status.index``: the generation that is pointed to, what is known of it, and the one before. Pure."""

from __future__ import annotations

from typing import Final

from buffer_operator.kube.kinds import Json
from buffer_operator.observing.observed import Observed
from buffer_operator.planning.generations import known_generations
from buffer_operator.resource.conditions import timestamp
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import ServiceStatus

_TOLD: Final = ("recall", "backend", "builtAt")
"""What the pods tell of the generation that they serve."""
_SWITCH: Final = ("count", "servedAt", "flipToServingSeconds")
_REMEMBERED: Final = ("count", "recall", "backend", "builtAt", "flippedAt")
"""What is kept of a generation when another one takes its place."""


def index_status(observed: Observed) -> Json:
    """Return it; while there is no pointer to be read, what was known last."""
    before: Json = observed.buffer.status.get("index", {})
    pointer = observed.pointer
    if pointer is None:
        return before
    known = known_generations(observed)
    earlier = next((entry for entry in known if entry["generation"] != pointer.generation), None)
    index: Json = {
        "generation": pointer.generation,
        "watermark": pointer.watermark,
        "revision": pointer.revision,
        "known": known,
        **({"previous": _previous(before, earlier)} if earlier else {}),
        **({"flippedAt": timestamp(pointer.flipped_at)} if pointer.flipped_at else {}),
    }
    return index | _told(observed, before, pointer) | _served(observed, before, pointer)


def _previous(before: Json, earlier: Json) -> Json:
    generation = earlier["generation"]
    sources = (before, before.get("previous", {}))
    source = next((one for one in sources if one.get("generation") == generation), {})
    remembered = {name: source[name] for name in _REMEMBERED if name in source}
    return {"generation": generation, "watermark": earlier["watermark"], **remembered}


def _told(observed: Observed, before: Json, pointer: Pointer) -> Json:
    """What a pod that serves the generation says about it; while none does, what was said last."""
    if pointer.generation == 0:
        return {}
    services = (pod.service for pod in observed.serving if pod.service)
    service = next((one for one in services if one.generation == pointer.generation), None)
    if service is not None:
        return _told_by(service)
    same = before.get("generation") == pointer.generation
    return {name: before[name] for name in _TOLD if same and name in before}


def _told_by(service: ServiceStatus) -> Json:
    """Recall and time of a build are missing from what pods of earlier versions say."""
    recall, built_at = service.index_recall, service.index_built_at
    return {
        "backend": service.backend.active,
        **({} if recall is None else {"recall": f"{recall:.4g}"}),
        **({} if built_at is None else {"builtAt": timestamp(built_at)}),
    }


def _served(observed: Observed, before: Json, pointer: Pointer) -> Json:
    """When the pods began to serve the pointer. Measured once for each revision: a restart is no switch."""
    if before.get("revision") == pointer.revision and "servedAt" in before:
        return {name: before[name] for name in _SWITCH if name in before}
    services = [pod.service for pod in observed.serving if pod.service]
    switches = [one.switch for one in services if one.switch and one.switch.revision == pointer.revision]
    if not services or len(switches) < len(services):
        return {}
    return {
        "count": services[0].index_rows,
        "servedAt": timestamp(max(switch.at for switch in switches)),
        "flipToServingSeconds": round(max(switch.since_flip_s for switch in switches), 3),
    }
