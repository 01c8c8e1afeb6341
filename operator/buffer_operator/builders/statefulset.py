"""The StatefulSet of the data pods.

The pod template depends on the spec, the image and nothing else: a new version of the operator with the same template
restarts no pod. The claim template of an existing StatefulSet cannot be changed, so its size is given by whoever calls.
"""

from __future__ import annotations

from buffer_operator import labels
from buffer_operator.builders.metadata import manifest
from buffer_operator.builders.security import container_security, pod_security
from buffer_operator.kinds import STATEFUL_SET, Json
from buffer_operator.labels import Component
from buffer_operator.observed import Buffer
from buffer_operator.spec import Gpu, Spec
from buffer_service.contract import names

CONTAINER = "buffer"
CLAIM = "data"
_GRACE_S = 30
NO_GPU = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
"""Without it a container that asked for no GPU can see all of its node's."""


def stateful_set(buffer: Buffer, spec: Spec, image: str, claim_size: str) -> Json:
    """Return the StatefulSet."""
    selection = labels.selection(buffer.name, Component.BUFFER)
    body = {
        "replicas": spec.replicas,
        "serviceName": names.headless_service(buffer.name),
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selection},
        "persistentVolumeClaimRetentionPolicy": {
            "whenDeleted": spec.persistence.when_deleted,
            "whenScaled": "Retain",
        },
        "template": {
            "metadata": {"labels": labels.labels_of(buffer.name, Component.BUFFER)},
            "spec": _pod(buffer, spec, image),
        },
        "volumeClaimTemplates": [_claim(buffer, spec, claim_size)],
    }
    return manifest(STATEFUL_SET, buffer, buffer.name, spec=body)


def claim_of_first_pod(buffer: str) -> str:
    """Return the name of the volume claim that the first pod of the StatefulSet has."""
    return f"{CLAIM}-{buffer}-0"


def tolerations(gpu: Gpu | None) -> dict[str, list[Json]]:
    """Return what lets a pod onto nodes that are reserved for GPU work; empty without a GPU."""
    if gpu is None:
        return {}
    return {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]}


def _pod(buffer: Buffer, spec: Spec, image: str) -> Json:
    runtime = spec.gpu.runtime_class_name if spec.gpu else None
    return {
        "serviceAccountName": buffer.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_S,
        "securityContext": pod_security(),
        **({"runtimeClassName": runtime} if runtime else {}),
        **tolerations(spec.gpu),
        "containers": [_container(spec, image)],
        "volumes": [
            {"name": "pointer", "configMap": {"name": names.pointer_config_map(buffer.name)}},
            {"name": "tokens", "secret": {"secretName": names.token_secret(buffer.name)}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _container(spec: Spec, image: str) -> Json:
    return {
        "name": CONTAINER,
        "image": image,
        "command": ["xbuf", "serve", "--data", names.DATA_PATH, "--host", "0.0.0.0", "--port", str(names.HTTP_PORT)],  # noqa: S104
        "env": _environment(spec),
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


def _environment(spec: Spec) -> list[dict[str, str]]:
    values = {
        "XBUF_SERVER__OPERATIONS_PORT": str(names.OPERATIONS_PORT),
        "XBUF_AUTH__TOKENS_DIR": names.TOKENS_PATH,
        "XBUF_PERSISTENCE__BACKEND": spec.persistence.backend,
        "XBUF_BUFFER__CAPACITY": str(spec.capacity),
        "XBUF_EMBEDDING__DIMENSION": str(spec.embedding.dimension),
        "XBUF_EMBEDDING__METRIC": spec.embedding.metric,
        "XBUF_SAMPLING__ALPHA": spec.sampling.alpha,
        "XBUF_INDEX__TYPE": spec.index.type,
        "XBUF_INDEX__FAISS_BACKEND": spec.index.faiss_backend,
        "XBUF_INDEX__FAISS_N_PROBES": str(spec.index.probes),
        "XBUF_INDEX__DELTA_ROWS_MAX": str(spec.index.delta_rows_max),
        "XBUF_INDEX__POINTER_DIR": names.POINTER_PATH,
        "XBUF_REBUILD__MODE": "external",
    }
    entries = [{"name": name, "value": value} for name, value in values.items()]
    return entries if spec.gpu else [*entries, NO_GPU]


def _resources(spec: Spec) -> Json:
    limits = {name: str(value) for name, value in spec.resources.limits.items()}
    if spec.gpu:
        limits[spec.gpu.resource_name] = str(spec.gpu.count)
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
