"""What ``kubectl xbuf`` asks of a buffer: changes of its annotations or its spec, which the operator carries out."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import Json
from buffer_operator.plugin.kubectl import Kubectl, PluginError
from buffer_operator.plugin.report import rollback_targets, suspended

_LOOK_INTERVAL_S: Final = 0.5

Say = Callable[[str], None]


def rebuild(kubectl: Kubectl, name: str, say: Say, wait_s: float | None) -> None:
    """Ask for a rebuild; with ``wait_s`` wait until it is served, at most that long."""
    before = kubectl.buffer(name)
    token = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(3)}"
    _annotate(kubectl, name, labels.REBUILD, token)
    say(f"{name}: a rebuild is asked for.{_hindrance(before)}")
    if wait_s is not None:
        outcome = _wait(kubectl, name, lambda resource: rebuilt(resource, token), wait_s, "the rebuild")
        say(f"{name}: {outcome}")


def rebuilt(resource: Json, token: str) -> str | None:
    """Return what came of a rebuild, None while it is under way; raises PluginError where it came to nothing."""
    status = resource.get("status", {})
    rebuild_status, index = status.get("rebuild", {}), status.get("index", {})
    if rebuild_status.get("request") != token or "job" in rebuild_status:
        return None
    last = rebuild_status["lastGeneration"]
    condition = _condition(resource, "RebuildSucceeded")
    if condition.get("status") == "False":
        raise PluginError(f"The rebuild came to nothing: {condition['message']}")
    if index.get("generation", 0) < last or "servedAt" not in index:
        return None
    return f"generation {index['generation']} is served, {index['flipToServingSeconds']} s after the pointer was moved."


def rollback(kubectl: Kubectl, name: str, say: Say, target: int | None, wait_s: float | None) -> None:
    """Ask to go back to a generation, the newest that is earlier where ``target`` is None."""
    resource = kubectl.buffer(name)
    index, targets = resource.get("status", {}).get("index", {}), rollback_targets(resource)
    if labels.PAUSED in resource["metadata"].get("annotations", {}):
        raise PluginError(f"{name} is paused: kubectl xbuf unpause {name} first.")
    if not targets:
        raise PluginError("There is no earlier generation to go back to.")
    if target is not None and target not in targets:
        there = ", ".join(str(one) for one in targets)
        raise PluginError(f"Generation {target} cannot be gone back to; those that can: {there}.")
    request = f"{targets[0] if target is None else target}@{index['revision']}"
    _annotate(kubectl, name, labels.ROLLBACK_TO, request)
    say(f"{name}: the way back to generation {request.partition('@')[0]} is asked for.{_running(resource)}")
    if wait_s is not None:
        say(f"{name}: {_wait(kubectl, name, lambda found: gone_back(found, request), wait_s, 'the rollback')}")


def gone_back(resource: Json, request: str) -> str | None:
    """Return what came of a rollback, None while it is under way; raises PluginError where it was refused."""
    status = resource.get("status", {})
    verdict, index = status.get("rollback", {}), status.get("index", {})
    if verdict.get("request") != request:
        return None
    if verdict["result"] != "Done":
        raise PluginError(f"The rollback was refused: {verdict['message']}.")
    if index.get("revision", 0) > int(request.partition("@")[2]) + 1:
        why = _condition(resource, "IndexCurrent").get("message", "")
        raise PluginError(f"The pointer has been moved again since: {why}")
    if f"{index.get('generation')}" != request.partition("@")[0] or "servedAt" not in index:
        return None
    return (
        f"generation {index['generation']} is served again, {index['flipToServingSeconds']} s after the pointer was "
        "moved. Rebuilds wait to be asked for."
    )


def suspend(kubectl: Kubectl, name: str, say: Say) -> None:
    """Take the pod away and keep the volume."""
    if suspended(kubectl.buffer(name)["spec"]):
        say(f"{name}: it is suspended already.")
        return
    kubectl.change(name, {"spec": {"suspend": True}})
    say(f"{name}: it is being suspended; its pod goes, its volume stays. kubectl xbuf resume {name} brings it back.")


def resume(kubectl: Kubectl, name: str, say: Say) -> None:
    """Bring the pod back."""
    spec = kubectl.buffer(name)["spec"]
    if not suspended(spec):
        say(f"{name}: it is not suspended.")
        return
    scaled = {"replicas": 1} if spec.get("replicas", 1) == 0 else {}
    kubectl.change(name, {"spec": {"suspend": False, **scaled}})
    say(f"{name}: its pod comes back.")


def pause(kubectl: Kubectl, name: str, say: Say, reason: str) -> None:
    """Have the operator apply nothing."""
    _annotate(kubectl, name, labels.PAUSED, reason)
    say(f"{name}: it is paused; kubectl xbuf status {name} shows what would change.")


def unpause(kubectl: Kubectl, name: str, say: Say) -> None:
    """Have the operator go on."""
    if labels.PAUSED not in kubectl.buffer(name)["metadata"].get("annotations", {}):
        say(f"{name}: it is not paused.")
        return
    _annotate(kubectl, name, labels.PAUSED, None)
    say(f"{name}: it is paused no longer.")


def _annotate(kubectl: Kubectl, name: str, annotation: str, value: str | None) -> None:
    kubectl.change(name, {"metadata": {"annotations": {annotation: value}}})


def _hindrance(resource: Json) -> str:
    if labels.PAUSED in resource["metadata"].get("annotations", {}):
        return " It is paused: the rebuild starts when it no longer is."
    if suspended(resource["spec"]):
        return " It is suspended: the rebuild starts when it has a pod again."
    if resource.get("status", {}).get("records") == 0:
        return " If it is still empty, the rebuild starts with its first experience."
    return _running(resource)


def _running(resource: Json) -> str:
    job = resource.get("status", {}).get("rebuild", {}).get("job")
    return f" Job {job} is running, and will move the pointer when it is done." if job else ""


def _condition(resource: Json, kind: str) -> Json:
    conditions: list[Json] = resource.get("status", {}).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == kind), {})


def _wait(kubectl: Kubectl, name: str, outcome: Callable[[Json], str | None], wait_s: float, what: str) -> str:
    """Look at the buffer until there is an outcome; raises PluginError after ``wait_s`` seconds."""
    deadline = time.monotonic() + wait_s
    while True:
        found = outcome(kubectl.buffer(name))
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise PluginError(f"After {wait_s:.0f} s {what} is still under way: kubectl xbuf status {name} tells more.")
        time.sleep(_LOOK_INTERVAL_S)
