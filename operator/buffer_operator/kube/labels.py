"""Labels and annotations by which the operator finds its objects again, each spelled here only."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from buffer_service.contract import names

BUFFER: Final = f"{names.API_GROUP}/buffer"
"""Label: the buffer that an object belongs to. Every object that is created carries it."""
GENERATION: Final = f"{names.API_GROUP}/generation"
"""Label of a rebuild Job: the generation that it builds."""
LAST_GENERATION: Final = f"{names.API_GROUP}/last-generation"
"""Annotation of a volume claim: the highest generation that a rebuild was started for. It outlives the buffer, as the
generations on the volume do."""
GROWN_AT: Final = f"{names.API_GROUP}/grown-at"
"""Annotation of a volume claim: Unix time in whole seconds at which the operator asked for a larger volume last."""
CONTENT: Final = f"{names.API_GROUP}/content"
"""Annotation of a volume claim: what kind of store it holds, by which a buffer that cannot use it is told."""
PAUSED: Final = f"{names.API_GROUP}/paused"
"""Annotation of a buffer: while it is there nothing is applied. Its value says who paused it and why."""
TEMPLATE: Final = f"{names.API_GROUP}/template"
"""Annotation of a StatefulSet, and of its pods while it is made anew: the pod template and what it was made from."""
APPLIED: Final = f"{names.API_GROUP}/applied"
"""Annotation: digest of the manifest that was applied last."""
REBUILD: Final = f"{names.API_GROUP}/rebuild"
"""Annotation of a buffer: a new value asks for a rebuild. Of a rebuild Job: the value that it answers."""
ROLLBACK_TO: Final = f"{names.API_GROUP}/rollback-to"
"""Annotation of a buffer: ``GENERATION@REVISION`` asks to go back to a generation from this revision of the pointer."""
TRIGGER: Final = f"{names.API_GROUP}/trigger"
"""Annotation of a rebuild Job: what started it, one word."""
TRIGGER_MESSAGE: Final = f"{names.API_GROUP}/trigger-message"
"""Annotation of a rebuild Job: what started it, for people."""
POINTER_REVISION: Final = f"{names.API_GROUP}/pointer-revision"
"""Annotation of a pod: changing it makes the kubelet refresh the mounted pointer at once."""
COMPONENT: Final = "app.kubernetes.io/component"


class Component(StrEnum):
    """What an object is a part of."""

    BUFFER = "buffer"
    REBUILD = "rebuild"


def selector_of(buffer: str) -> str:
    """Return the label selector of everything that belongs to the buffer."""
    return f"{BUFFER}={buffer}"


def selection(buffer: str, component: Component) -> dict[str, str]:
    """Return the labels by which Services, StatefulSets and affinities choose pods; never to be changed."""
    return {BUFFER: buffer, COMPONENT: str(component)}


def labels_of(buffer: str, component: Component) -> dict[str, str]:
    """Return the labels of an object of the buffer."""
    return {
        "app.kubernetes.io/name": "experience-buffer",
        "app.kubernetes.io/instance": buffer,
        "app.kubernetes.io/managed-by": "experience-buffer-operator",
        **selection(buffer, component),
    }
