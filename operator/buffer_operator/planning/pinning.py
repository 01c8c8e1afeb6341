"""The pod template stays as it was made for as long as what the spec says about it stays. Pure.

A newer operator may make another template of the same spec. It must not restart pods for that: the template is kept in
an annotation with a digest of what it was made from, and made anew only when that changes. While there is no
StatefulSet, because it is made anew around its pods, they carry the annotation.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Final

import msgspec

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import STATEFUL_SET, Json
from buffer_operator.observing.observed import Observed
from buffer_operator.resource.spec import Spec

_ELSEWHERE: Final = (
    "replicas",
    "suspend",
    "rebuild",
    "monitoring",
    "networkPolicy",
    "disruptionBudget",
    "persistence.size",
    "persistence.autoGrowth",
    "persistence.whenDeleted",
    "persistence.storageClassName",
    "index.recallFloor",
)
"""Fields of the spec that the template does not depend on. One too few costs a restart, and only if that field changes
after an upgrade of the operator; one too many would keep a change from the pods."""


class Pin(msgspec.Struct, frozen=True):
    """A template and the digest of what it was made from."""

    inputs: str
    template: Json


def pin_template(observed: Observed, spec: Spec, image: str, stateful_set: Json) -> Json:
    """Return the StatefulSet with the template of before where that was made from the same, and the annotation."""
    inputs = inputs_of(spec, image)
    before = _read(pinned_text(observed))
    template = before.template if before and before.inputs == inputs else stateful_set["spec"]["template"]
    text = msgspec.json.encode(Pin(inputs, template), order="sorted").decode()
    metadata = stateful_set["metadata"]
    annotations = metadata.get("annotations", {}) | {labels.TEMPLATE: text}
    return {
        **stateful_set,
        "metadata": metadata | {"annotations": annotations},
        "spec": stateful_set["spec"] | {"template": template},
    }


def pinned_text(observed: Observed) -> str:
    """Return the annotation of the StatefulSet, or of a pod that outlives it for a moment; empty where none has it."""
    found = observed.children.get((STATEFUL_SET, observed.buffer.name))
    if found is not None:
        text: str = found["metadata"].get("annotations", {}).get(labels.TEMPLATE, "")
        return text
    return next((pod.template for pod in observed.pods if pod.template), "")


def inputs_of(spec: Spec, image: str) -> str:
    """Return the digest of what a template is made from. Defaults do not count, so that new fields do not change it."""
    content = msgspec.json.encode([image, _given(spec)], order="sorted")
    return hashlib.sha256(content).hexdigest()[:16]


def _given(part: msgspec.Struct, prefix: str = "") -> Json:
    found: Json = {}
    for field in _fields(type(part)):
        path, value = f"{prefix}{field.encode_name}", getattr(part, field.name)
        if path in _ELSEWHERE:
            continue
        if isinstance(value, msgspec.Struct):
            inner = _given(value, f"{path}.")
            if inner or field.default is None:
                found[field.encode_name] = inner
        elif value != _default(field):
            found[field.encode_name] = value
    return found


@functools.cache
def _fields(part: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return the fields of a part; working them out anew was half of the cost of a look at a buffer."""
    return msgspec.structs.fields(part)


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default_factory() if callable(field.default_factory) else field.default


def _read(text: str) -> Pin | None:
    try:
        return msgspec.json.decode(text, type=Pin)
    except msgspec.DecodeError:
        return None
