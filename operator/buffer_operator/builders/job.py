"""The rebuild Job: runs beside the buffer's pod on the same volume, sees the export and the indexes, moves the pointer.

A Job may run its pod twice; the generation in its name and in its arguments makes the second run harmless.
"""

from __future__ import annotations

from dataclasses import dataclass

from buffer_operator.builders.environment import NO_GPU, as_entries, index_storage
from buffer_operator.builders.metadata import manifest
from buffer_operator.builders.security import container_security, pod_security
from buffer_operator.builders.statefulset import CLAIM, claim_of_first_pod, pull_secrets, tolerations
from buffer_operator.kube import labels
from buffer_operator.kube.kinds import JOB, Json
from buffer_operator.kube.labels import Component
from buffer_operator.observing.observed import Buffer
from buffer_operator.resource.spec import Spec
from buffer_service.contract import names

CONTAINER = "rebuild"
_EXPORT_PATH = "/export"
_INDEXES_PATH = "/indexes"
_BACKOFF_LIMIT = 2
_TTL_S = 3600
"""How long a finished Job stays: failures are counted from the Jobs that are there."""
_TOKEN_S = 3600


@dataclass(frozen=True, slots=True)
class Cause:
    """What started a rebuild, as its Job's annotations tell."""

    kind: str
    message: str
    request: str = ""
    """The token of a request by hand."""


def rebuild_job(
    buffer: Buffer, spec: Spec, image: str, generation: int, cause: Cause, revision: int, searched_on: str = "cpu"
) -> Json:
    """Return the Job that builds this generation from the export that is on the volume.

    ``searched_on`` is the device (``cpu`` or ``gpu``) that the index is chosen for: the one that the pods search on.
    ``revision`` is that of the pointer: if it is moved back meanwhile, the Job leaves it there.
    """
    name = names.rebuild_job(buffer.name, generation)
    body = {
        "backoffLimit": _BACKOFF_LIMIT,
        "activeDeadlineSeconds": spec.rebuild.deadline_seconds,
        "ttlSecondsAfterFinished": _TTL_S,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": CONTAINER,
                        "operator": "In",
                        "values": [names.EXIT_UNUSABLE_INPUT],
                    },
                },
            ]
        },
        "template": {
            "metadata": {"labels": labels.labels_of(buffer.name, Component.REBUILD)},
            "spec": _pod(buffer, spec, image, _arguments(buffer, spec, generation, revision, searched_on)),
        },
    }
    job = manifest(JOB, buffer, name, Component.REBUILD, spec=body)
    job["metadata"]["labels"][labels.GENERATION] = str(generation)
    job["metadata"]["annotations"] = {
        labels.TRIGGER: cause.kind,
        labels.TRIGGER_MESSAGE: cause.message,
        **({labels.REBUILD: cause.request} if cause.request else {}),
    }
    return job


def _arguments(buffer: Buffer, spec: Spec, generation: int, revision: int, searched_on: str) -> list[str]:
    places = ["--export", _EXPORT_PATH, "--indexes", _INDEXES_PATH, "--generation", str(generation)]
    pointer = ["--pointer-configmap", names.pointer_config_map(buffer.name), "--namespace", buffer.namespace]
    devices = ["--device", searched_on, "--build-on", "gpu" if _has_gpu(spec) else "cpu"]
    kept = ["--keep", str(spec.rebuild.keep_generations)]
    return [*places, *pointer, "--revision", str(revision), *kept, *devices]


def _has_gpu(spec: Spec) -> bool:
    return spec.gpu is not None and spec.rebuild.device != "cpu"


def _pod(buffer: Buffer, spec: Spec, image: str, arguments: list[str]) -> Json:
    runtime = spec.gpu.runtime_class_name if spec.gpu and _has_gpu(spec) else None
    beside_the_buffer = {
        "labelSelector": {"matchLabels": labels.selection(buffer.name, Component.BUFFER)},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {
        "restartPolicy": "Never",
        "serviceAccountName": names.rebuild_service_account(buffer.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # A first process of its own PID namespace ignores SIGTERM: an evicted rebuild would use up its grace period.
        "shareProcessNamespace": True,
        "securityContext": pod_security(),
        **({"runtimeClassName": runtime} if runtime else {}),
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside_the_buffer]}},
        **tolerations(spec),
        **pull_secrets(spec),
        "containers": [_container(spec, image, arguments)],
        "volumes": [
            {"name": CLAIM, "persistentVolumeClaim": {"claimName": claim_of_first_pod(buffer.name)}},
            {"name": "tmp", "emptyDir": {}},
            _credentials(),
        ],
    }


def _container(spec: Spec, image: str, arguments: list[str]) -> Json:
    environment = {
        "XBUF_INDEX__TYPE": spec.index.type,
        "XBUF_INDEX__FAISS_N_PROBES": str(spec.index.probes),
        "XBUF_INDEX__RECALL_FLOOR": spec.index.recall_floor,
        **index_storage(spec),
    }
    return {
        "name": CONTAINER,
        "image": image,
        "command": ["xbuf", "rebuild", *arguments],
        "env": [*as_entries(environment), *([] if _has_gpu(spec) else [NO_GPU])],
        **_resources(spec),
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": CLAIM, "mountPath": _EXPORT_PATH, "subPath": names.EXPORT_FOLDER, "readOnly": True},
            {"name": CLAIM, "mountPath": _INDEXES_PATH, "subPath": names.INDEXES_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
            {
                "name": "credentials",
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                "readOnly": True,
            },
        ],
    }


def _resources(spec: Spec) -> Json:
    given = spec.rebuild.resources
    limits = {name: str(value) for name, value in given.limits.items()}
    if spec.gpu and _has_gpu(spec):
        limits[spec.gpu.resource] = "1"
    requests = {name: str(value) for name, value in given.requests.items()}
    resources = {**({"limits": limits} if limits else {}), **({"requests": requests} if requests else {})}
    return {"resources": resources} if resources else {}


def _credentials() -> Json:
    return {
        "name": "credentials",
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_S}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {
                    "downwardAPI": {
                        "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}],
                    }
                },
            ]
        },
    }
