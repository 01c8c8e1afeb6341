"""The kinds of objects that the operator reads or writes, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from buffer_service.contract import names

Json = dict[str, Any]
"""An object as the API server sends it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of namespaced object."""

    api_version: str
    name: str
    plural: str

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Return the URL path of an object, or of the collection where ``name`` is empty; None is every namespace."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        scope = f"/namespaces/{quote(namespace)}" if namespace else ""
        parts = [f"{root}{scope}/{self.plural}", quote(name), subresource]
        return "/".join(part for part in parts if part)


BUFFER: Final = Kind(f"{names.API_GROUP}/{names.API_VERSION}", names.KIND, names.PLURAL)
CLAIM: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
DISRUPTION_BUDGET: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
EVENT: Final = Kind("v1", "Event", "events")
JOB: Final = Kind("batch/v1", "Job", "jobs")
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD: Final = Kind("v1", "Pod", "pods")
POD_MONITOR: Final = Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
"""Known to the API server only where the Prometheus operator is installed."""
ROLE: Final = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING: Final = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
SECRET: Final = Kind("v1", "Secret", "secrets")
SERVICE: Final = Kind("v1", "Service", "services")
SERVICE_ACCOUNT: Final = Kind("v1", "ServiceAccount", "serviceaccounts")
STATEFUL_SET: Final = Kind("apps/v1", "StatefulSet", "statefulsets")

_KINDS: Final = {
    (kind.api_version, kind.name): kind
    for kind in (
        BUFFER,
        CLAIM,
        CONFIG_MAP,
        DISRUPTION_BUDGET,
        EVENT,
        JOB,
        LEASE,
        NETWORK_POLICY,
        POD,
        POD_MONITOR,
        ROLE,
        ROLE_BINDING,
        SECRET,
        SERVICE,
        SERVICE_ACCOUNT,
        STATEFUL_SET,
    )
}


def kind_of(manifest: Json) -> Kind:
    """Return the kind of a manifest; raises KeyError for one that the operator has nothing to do with."""
    return _KINDS[manifest["apiVersion"], manifest["kind"]]
