"""Accounts, roles and tokens: the data pods get no credentials, rebuild Jobs may touch one ConfigMap."""

from __future__ import annotations

from buffer_operator.builders.metadata import manifest
from buffer_operator.kube.kinds import ROLE, ROLE_BINDING, SECRET, SERVICE_ACCOUNT, Json
from buffer_operator.kube.labels import Component
from buffer_operator.observing.observed import Buffer
from buffer_operator.resource.spec import Spec
from buffer_service.contract import names

_RBAC_GROUP = "rbac.authorization.k8s.io"


def buffer_account(buffer: Buffer) -> Json:
    """Return the ServiceAccount of the data pods; it is bound to nothing."""
    return manifest(SERVICE_ACCOUNT, buffer, buffer.name, automountServiceAccountToken=False)


def rebuild_account(buffer: Buffer) -> Json:
    """Return the ServiceAccount of the rebuild Jobs; the Job mounts its token itself."""
    name = names.rebuild_service_account(buffer.name)
    return manifest(SERVICE_ACCOUNT, buffer, name, Component.REBUILD, automountServiceAccountToken=False)


def rebuild_role(buffer: Buffer) -> Json:
    """Return the Role that lets rebuild Jobs move the pointer."""
    rule = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [names.pointer_config_map(buffer.name)],
        "verbs": ["get", "patch", "update"],
    }
    return manifest(ROLE, buffer, names.rebuild_service_account(buffer.name), Component.REBUILD, rules=[rule])


def rebuild_binding(buffer: Buffer) -> Json:
    """Return the RoleBinding of the two."""
    name = names.rebuild_service_account(buffer.name)
    return manifest(
        ROLE_BINDING,
        buffer,
        name,
        Component.REBUILD,
        roleRef={"apiGroup": _RBAC_GROUP, "kind": "Role", "name": name},
        subjects=[{"kind": "ServiceAccount", "name": name, "namespace": buffer.namespace}],
    )


def token_secret_of(buffer: str, spec: Spec) -> str:
    """Return the name of the Secret with the tokens: the user's, or the one that the operator makes."""
    return spec.auth.secret_name or names.token_secret(buffer)


def token_secret(buffer: Buffer, tokens: dict[str, str]) -> Json:
    """Return the Secret with one token per scope; created once, never applied."""
    return manifest(SECRET, buffer, names.token_secret(buffer.name), type="Opaque", stringData=tokens)
