"""Pod security of the restricted profile, the same for data pods and Jobs."""

from __future__ import annotations

from buffer_operator.kube.kinds import Json

_USER = 65532
"""The image's own user; its group owns what is on the volume."""


def pod_security() -> Json:
    """Return the security context of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "fsGroup": _USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Json:
    """Return the security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
