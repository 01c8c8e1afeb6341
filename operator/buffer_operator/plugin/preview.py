"""``kubectl xbuf plan``: what applying a file would do, by the operator's own planner. Nothing is changed.

The API server says what the object would be (a dry run of ``kubectl apply``: defaults and validation included); the
plan is made from that and from what there is. Pods are not asked, so rebuilds, which depend on their word, are not
foreseen.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Final

import msgspec

from buffer_operator.kube.kinds import STATEFUL_SET, Json, kind_of
from buffer_operator.observing.observed import Observed
from buffer_operator.planning.actions import Action, Apply, describe
from buffer_operator.planning.plan import changes, foreign_children, restarts_due
from buffer_operator.planning.restarts import Restart
from buffer_operator.planning.suspension import paused_by
from buffer_operator.plugin.differences import Path, differences, ours, replaced, shown
from buffer_operator.plugin.kubectl import RESOURCE, UNUSABLE, Kubectl, PluginError
from buffer_operator.plugin.live import Live, fetch
from buffer_service.contract import names

OPERATORS_IMAGE: Final = "(the operator's image)"
_UNUSABLE_WORDS: Final = ("is invalid", "arsing", "decoding", "path", "no objects", "not valid", "unable to decode")
_METADATA: Final = "metadata"


class Field(msgspec.Struct, frozen=True):
    """A field of the spec that changes."""

    field: str
    before: str
    after: str
    effect: str
    """What this change alone would restart."""


class Step(msgspec.Struct, frozen=True):
    """Something that the operator would do."""

    action: str
    changes: list[str]
    """Fields of an object that is there which would change."""


class Preview(msgspec.Struct, frozen=True):
    """What would happen to one buffer."""

    namespace: str
    name: str
    new: bool
    paused: bool
    objection: str
    """Why the operator would do nothing; empty where it would."""
    fields: list[Field]
    steps: list[Step]
    restarts: list[dict[str, str]]
    """Pods that would be restarted: ``pod``, ``reason``, ``message``."""


def previews(kubectl: Kubectl, file: str, text: str | None) -> list[Preview]:
    """Return what applying the file would do to each buffer in it; ``text`` is its content where it is ``-``.

    Raises PluginError, with the exit status for unusable input where the file or what it says is at fault.
    """
    try:
        said = kubectl("apply", "--dry-run=server", "--output", "json", "--filename", file, stdin=text)
    except PluginError as error:
        if any(words in str(error) for words in _UNUSABLE_WORDS):
            raise PluginError(str(error), UNUSABLE) from error
        raise
    found: Json = json.loads(said)
    items = found["items"] if found.get("kind") == "List" else [found]
    wanted = [item for item in items if item.get("kind") == names.KIND]
    if not wanted:
        where = "standard input" if file == "-" else file
        raise PluginError(f"There is no {names.KIND} in {where}.", UNUSABLE)
    return [_preview(kubectl, item) for item in wanted]


def _preview(kubectl: Kubectl, after: Json) -> Preview:
    metadata = after[_METADATA]
    scoped = Kubectl(kubectl.connection, metadata["namespace"])
    before = next(iter(scoped.objects(f"{RESOURCE}/{metadata['name']}")), None)
    return asyncio.run(foresee(fetch(scoped, after), before, after, time.time()))


async def foresee(live: Live, before: Json | None, after: Json, now: float) -> Preview:
    """Return what would happen if the buffer ``before`` (None where there is none) became ``after``."""
    fields = await _fields(live, before, after, now) if before else []
    observed = await live.look(after)
    foreign = ", ".join(foreign_children(observed))
    return Preview(
        namespace=observed.buffer.namespace,
        name=observed.buffer.name,
        new=before is None,
        paused=paused_by(observed.buffer) is not None,
        objection=observed.buffer.invalid or (f"{foreign} exists and belongs to something else." if foreign else ""),
        fields=fields,
        steps=[_step(observed, action) for action in changes(observed, OPERATORS_IMAGE, now)],
        restarts=[
            {"pod": one.pod, "reason": str(one.reason), "message": one.message} for one in _restarts(observed, now)
        ],
    )


def _restarts(observed: Observed, now: float) -> list[Restart]:
    return restarts_due(observed, OPERATORS_IMAGE, now)


async def _fields(live: Live, before: Json, after: Json, now: float) -> list[Field]:
    already = _restarts(await live.look(before), now)
    return [
        Field(
            field=".".join(one.path),
            before=shown(one.before),
            after=shown(one.after),
            effect=await _effect(live, before, one.path, one.after, already, now),
        )
        for one in differences(before["spec"], after["spec"])
    ]


async def _effect(live: Live, before: Json, path: Path, value: object, already: list[Restart], now: float) -> str:
    """Say what a change alone would do to pods, by planning with it alone."""
    observed = await live.look({**before, "spec": replaced(before["spec"], path, value)})
    if observed.buffer.spec is None:
        return "only together with the others"
    if observed.buffer.spec.suspended and observed.pods:
        return "the pod ends"
    restarted = [one.pod for one in _restarts(observed, now) if one not in already]
    return f"restarts {', '.join(restarted)}" if restarted else "no restart"


def _step(observed: Observed, action: Action) -> Step:
    if not isinstance(action, Apply):
        return Step(describe(action), [])
    kind, name = kind_of(action.manifest), action.manifest[_METADATA]["name"]
    found = observed.children.get((kind, name))
    if found is None:
        return Step(f"create {kind.name} {name}", [])
    changed = [one for one in ours(action.manifest, found) if one.path[0] != _METADATA]
    named = ".".join if kind != STATEFUL_SET else _short
    return Step(describe(action), [f"{named(one.path)}: {shown(one.before)} → {shown(one.after)}" for one in changed])


def _short(path: Path) -> str:
    """The way to a pod's template is the same for all of its fields."""
    way = ("spec", "template", "spec")
    return ".".join(path[len(way) :] if path[: len(way)] == way else path)
