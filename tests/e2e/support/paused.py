"""Buffers whose pods no node takes: everything about them is real but that nothing runs and nothing is computed."""

from __future__ import annotations

from tests.e2e.support.buffers import RESOURCE, Buffer, manifest
from tests.e2e.support.kubectl import Json, Kubectl

KINDS = (
    "statefulsets,services,configmaps,secrets,serviceaccounts,roles.rbac.authorization.k8s.io,"
    "rolebindings.rbac.authorization.k8s.io,persistentvolumeclaims,pods,jobs"
)
_NO_NODE_HAS = "1000"


def paused_manifest(name: str = "demo", **spec: object) -> Json:
    """Return a buffer that asks for more processors than any node has."""
    return manifest(name, resources={"requests": {"cpu": _NO_NODE_HAS}}, **spec)


def is_settled(buffer: Buffer) -> bool:
    """Whether all of it has been made, and its status says that only the node is missing."""
    return buffer.condition("Ready").get("reason") == "Unschedulable"


def names_of(kubectl: Kubectl, buffer: Buffer) -> list[str]:
    """Return the names of all objects that belong to the buffer."""
    return sorted(f"{one['kind']}/{one['metadata']['name']}" for one in kubectl.list(KINDS, buffer.selector))


def versions(kubectl: Kubectl) -> dict[str, str]:
    """Return the resourceVersion of every buffer and of everything that belongs to one."""
    found = kubectl.list(f"{RESOURCE},{KINDS}")
    return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in found}
