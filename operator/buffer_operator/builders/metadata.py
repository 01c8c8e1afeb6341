"""What every object of a buffer has in common: labels, owner, and the digest of what was applied."""

from __future__ import annotations

import hashlib

import msgspec

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import BUFFER, Json, Kind
from buffer_operator.kube.labels import Component
from buffer_operator.observing.observed import Buffer


def manifest(kind: Kind, buffer: Buffer, name: str, component: Component = Component.BUFFER, **fields: object) -> Json:
    """Return an object that belongs to the buffer and leaves with it."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {
            "name": name,
            "namespace": buffer.namespace,
            "labels": labels.labels_of(buffer.name, component),
            "ownerReferences": [owner_reference(buffer)],
        },
        **fields,
    }


def owner_reference(buffer: Buffer) -> Json:
    """Return the reference that makes garbage collection remove an object with its buffer; it blocks no deletion."""
    return {
        "apiVersion": BUFFER.api_version,
        "kind": BUFFER.name,
        "name": buffer.name,
        "uid": buffer.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def holder_reference(buffer: Buffer) -> Json:
    """Return the reference of an owner that is not the controller: it only keeps garbage from being left behind."""
    return {**owner_reference(buffer), "controller": False}


def stamped(wanted: Json) -> Json:
    """Return the manifest with its own digest as an annotation, by which a changed intent is recognised."""
    digest = hashlib.sha256(msgspec.json.encode(wanted, order="sorted")).hexdigest()[:16]
    metadata = wanted["metadata"]
    annotations = {**metadata.get("annotations", {}), labels.APPLIED: digest}
    return {**wanted, "metadata": {**metadata, "annotations": annotations}}
