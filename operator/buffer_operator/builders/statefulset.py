"""The StatefulSet of the data pods.

The pod template depends on the spec, the image and nothing else: a new version of the operator with the same template
restarts no pod. The claim template of an existing StatefulSet cannot be changed, so its size is given by whoever calls.
"""

from __future__ import annotations

from buffer_operator.builders.access import token_secret_of
from buffer_operator.builders.environment import environment
from buffer_operator.builders.metadata import manifest
from buffer_operator.builders.security import container_security, pod_security
from buffer_operator.kube import labels
from buffer_operator.kube.kinds import STATEFUL_SET, Json
from buffer_operator.kube.labels import Component
from buffer_operator.observing.observed import Buffer
from buffer_operator.resource.spec import Spec
from buffer_service.contract import names

CONTAINER = "buffer"
CLAIM = "data"
_GRACE_S = 30


def stateful_set(buffer: Buffer, spec: Spec, image: str, claim_size: str) -> Json:
    """Return the StatefulSet."""
    selection = labels.selection(buffer.name, Component.BUFFER)
    body = {
        "replicas": spec.pods_wanted,
        "serviceName": names.headless_service(buffer.name),
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selection},
        "persistentVolumeClaimRetentionPolicy": {
            "whenDeleted": "Retain",  # whether it goes is up to the buffer, which then owns it
            "whenScaled": "Retain",
        },
        "template": {"metadata": _template_metadata(buffer, spec), "spec": _pod(buffer, spec, image)},
        "volumeClaimTemplates": [_claim(buffer, spec, claim_size)],
    }
    return manifest(STATEFUL_SET, buffer, buffer.name, spec=body)


def claim_of_first_pod(buffer: str) -> str:
    """Return the name of the volume claim that the first pod of the StatefulSet has."""
    return f"{CLAIM}-{buffer}-0"


def tolerations(spec: Spec) -> dict[str, list[Json]]:
    """Return what lets a pod onto nodes with taints, those that are reserved for GPU work among them; may be empty."""
    reserved: list[Json] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}] if spec.gpu else []
    wanted = [*reserved, *spec.pod_template.spec.tolerations]
    return {"tolerations": wanted} if wanted else {}


def pull_secrets(spec: Spec) -> dict[str, list[Json]]:
    """Return the Secrets to pull the image with; may be empty."""
    wanted = spec.pod_template.spec.image_pull_secrets
    return {"imagePullSecrets": wanted} if wanted else {}


def _template_metadata(buffer: Buffer, spec: Spec) -> Json:
    given = spec.pod_template.metadata
    ours = labels.labels_of(buffer.name, Component.BUFFER)
    return {"labels": {**given.labels, **ours}, **({"annotations": given.annotations} if given.annotations else {})}


def _placement(spec: Spec) -> Json:
    """Where the pod may run, as far as the spec says."""
    given = spec.pod_template.spec
    fields = {
        "nodeSelector": given.node_selector,
        "affinity": given.affinity,
        "topologySpreadConstraints": given.topology_spread_constraints,
        "priorityClassName": given.priority_class_name,
    }
    return {name: value for name, value in fields.items() if value} | tolerations(spec) | pull_secrets(spec)


def _pod(buffer: Buffer, spec: Spec, image: str) -> Json:
    runtime = spec.gpu.runtime_class_name if spec.gpu else None
    return {
        "serviceAccountName": buffer.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_S,
        "securityContext": pod_security(),
        **({"runtimeClassName": runtime} if runtime else {}),
        **_placement(spec),
        "containers": [_container(spec, image)],
        "volumes": [
            {"name": "pointer", "configMap": {"name": names.pointer_config_map(buffer.name)}},
            {"name": "tokens", "secret": {"secretName": token_secret_of(buffer.name, spec)}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _container(spec: Spec, image: str) -> Json:
    return {
        "name": CONTAINER,
        "image": image,
        "command": ["xbuf", "serve", "--data", names.DATA_PATH, "--host", "0.0.0.0", "--port", str(names.HTTP_PORT)],  # noqa: S104
        "env": environment(spec),
        "ports": [
            {"name": "http", "containerPort": names.HTTP_PORT, "protocol": "TCP"},
            {"name": "operations", "containerPort": names.OPERATIONS_PORT, "protocol": "TCP"},
        ],
        **_resources(spec),
        "startupProbe": _probe("/startupz", period_s=1, failures=600),
        "readinessProbe": _probe("/readyz", period_s=2, failures=2),
        "livenessProbe": _probe("/livez", period_s=10, failures=6),
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": CLAIM, "mountPath": names.DATA_PATH},
            {"name": "pointer", "mountPath": names.POINTER_PATH, "readOnly": True},
            {"name": "tokens", "mountPath": names.TOKENS_PATH, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
        ],
    }


def _resources(spec: Spec) -> Json:
    limits = {name: str(value) for name, value in spec.resources.limits.items()}
    if spec.gpu:
        limits[spec.gpu.resource] = str(spec.gpu.count)
    requests = {name: str(value) for name, value in spec.resources.requests.items()}
    resources = {**({"limits": limits} if limits else {}), **({"requests": requests} if requests else {})}
    return {"resources": resources} if resources else {}


def _probe(path: str, *, period_s: int, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": "operations"},
        "periodSeconds": period_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _claim(buffer: Buffer, spec: Spec, size: str) -> Json:
    storage_class = spec.persistence.storage_class_name
    return {
        "metadata": {"name": CLAIM, "labels": {labels.BUFFER: buffer.name}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }
