"""The rebuild Job: runs beside the buffer's pod on the same volume, sees the export and the indexes, moves the pointer.

A Job may run its pod twice; the generation in its name and in its arguments makes the second run harmless.
"""

from __future__ import annotations

from buffer_operator import labels
from buffer_operator.builders.metadata import manifest
from buffer_operator.builders.security import container_security, pod_security
from buffer_operator.builders.statefulset import CLAIM, NO_GPU, claim_of_first_pod, tolerations
from buffer_operator.kinds import JOB, Json
from buffer_operator.labels import Component
from buffer_operator.observed import Buffer
from buffer_operator.spec import Spec
from buffer_service.contract import names

CONTAINER = "rebuild"
_EXPORT_PATH = "/export"
_INDEXES_PATH = "/indexes"
_BACKOFF_LIMIT = 2
_TTL_S = 3600
"""How long a finished Job stays: failures are counted from the Jobs that are there."""
_TOKEN_S = 3600


def rebuild_job(buffer: Buffer, spec: Spec, image: str, generation: int) -> Json:
    """Return the Job that builds this generation from the export that is on the volume."""
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
            "spec": _pod(buffer, spec, image, generation),
        },
    }
    job = manifest(JOB, buffer, name, Component.REBUILD, spec=body)
    job["metadata"]["labels"][labels.GENERATION] = str(generation)
    return job


def _pod(buffer: Buffer, spec: Spec, image: str, generation: int) -> Json:
    beside_the_buffer = {
        "labelSelector": {"matchLabels": labels.selection(buffer.name, Component.BUFFER)},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {
        "restartPolicy": "Never",
        "serviceAccountName": names.rebuild_service_account(buffer.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside_the_buffer]}},
        **tolerations(spec.gpu),
        "containers": [_container(buffer, spec, image, generation)],
        "volumes": [
            {"name": CLAIM, "persistentVolumeClaim": {"claimName": claim_of_first_pod(buffer.name)}},
            {"name": "tmp", "emptyDir": {}},
            _credentials(),
        ],
    }


def _container(buffer: Buffer, spec: Spec, image: str, generation: int) -> Json:
    places = ["--export", _EXPORT_PATH, "--indexes", _INDEXES_PATH, "--generation", str(generation)]
    pointer = ["--pointer-configmap", names.pointer_config_map(buffer.name), "--namespace", buffer.namespace]
    environment = {
        "XBUF_INDEX__TYPE": spec.index.type,
        "XBUF_INDEX__FAISS_N_PROBES": str(spec.index.probes),
        "XBUF_INDEX__RECALL_FLOOR": spec.index.recall_floor,
    }
    return {
        "name": CONTAINER,
        "image": image,
        "command": ["xbuf", "rebuild", *places, *pointer, "--keep", str(spec.rebuild.keep_generations)],
        "env": [*({"name": name, "value": value} for name, value in environment.items()), NO_GPU],
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
