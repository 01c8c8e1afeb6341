"""Pods that talk to a buffer as an inference pod does: through its Service, with a token of its Secret.

They run the scripts in ``tests/e2e/clients`` from the product's image. The last line of a script's output is its
result, the lines before are its progress, each one JSON object.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from buffer_service.contract import names
from tests.e2e.support.buffers import Buffer
from tests.e2e.support.kubectl import CommandError, Json, Kubectl, eventually

CLIENTS = Path(__file__).parent.parent / "clients"
_CONFIG_MAP = "clients"
_FOLDER = "/clients"
_START_S = 60.0
_END_S = 90.0
_USER = 65532
"""The image's own user."""


@dataclass(frozen=True)
class ClientPod:
    """A script that runs in a pod."""

    kubectl: Kubectl
    name: str

    def progress(self) -> Json:
        """Return what it said last; empty before its first word."""
        try:
            lines = self.kubectl("logs", self.name, "--tail=1").splitlines()
        except CommandError:
            return {}
        return _parsed(lines[-1]) if lines else {}

    def wait_progress(self, field: str, least: int, timeout_s: float = _START_S) -> Json:
        """Wait until a number of its progress is high enough; returns the progress."""

        def far_enough() -> Json | None:
            found = self.progress()
            return found if found.get(field, -1) >= least else None

        return eventually(far_enough, f"{least} {field} by {self.name}, of which {self.progress()}", timeout_s)

    def stop(self) -> Json:
        """Tell it to come to an end; returns its result."""
        self.kubectl("exec", self.name, "--", "touch", "/tmp/stop")  # noqa: S108 - in the pod
        return self.result()

    def result(self) -> Json:
        """Wait until it has ended by itself; returns its result. Fails where the script did."""
        eventually(self._ended, f"the end of {self.name}", _END_S)
        lines = self.kubectl("logs", self.name).splitlines()
        phase = self.kubectl.existing("pod", self.name)["status"]["phase"]
        assert phase == "Succeeded", f"{self.name} failed:\n" + "\n".join(lines[-20:])
        return _parsed(lines[-1])

    def _ended(self) -> bool:
        return self.kubectl.existing("pod", self.name)["status"].get("phase") in ("Succeeded", "Failed")


def _parsed(line: str) -> Json:
    try:
        found: Json = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return found


def start_load(buffer: Buffer, image: str, name: str = "load", **options: object) -> ClientPod:
    """Append to a buffer and search in it without a pause until it is told to stop; see ``clients/load.py``."""
    arguments = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    return start_client(buffer, image, name, "load.py", *arguments)


def start_client(buffer: Buffer, image: str, name: str, script: str, *arguments: str) -> ClientPod:
    """Start a script of ``clients`` against a buffer."""
    secret = {"name": names.token_secret(buffer.name), "key": "write"}
    environment: list[Json] = [
        {"name": "XBUF_URL", "value": buffer.url},
        {"name": "XBUF_TOKEN", "valueFrom": {"secretKeyRef": secret}},
    ]
    return start_script(buffer.kubectl, image, name, script, *arguments, environment=environment)


def start_script(
    kubectl: Kubectl,
    image: str,
    name: str,
    script: str,
    *arguments: str,
    environment: list[Json] | None = None,
    claim: str = "",
    **pod_fields: object,
) -> ClientPod:
    """Start a script of ``clients`` in a pod; ``claim`` is a volume claim to mount where the service has it."""
    scripts = {path.name: path.read_text() for path in CLIENTS.glob("*.py")}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _CONFIG_MAP}, "data": scripts}
    container = {
        "name": "client",
        "image": image,
        "command": ["python", f"{_FOLDER}/{script}", *arguments],
        "env": [*(environment or []), {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = _restricted() | _mounted(container, claim) | pod_fields
    kubectl.apply(config_map, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    return ClientPod(kubectl, name)


def _restricted() -> Json:
    """What every client pod has; fit for the restricted pod security standard."""
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _mounted(container: Json, claim: str) -> Json:
    volumes: list[Json] = [{"name": "clients", "configMap": {"name": _CONFIG_MAP}}, {"name": "tmp", "emptyDir": {}}]
    mounts = [{"name": "clients", "mountPath": _FOLDER}, {"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    if claim:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "data", "mountPath": names.DATA_PATH})
    return {"containers": [container | {"volumeMounts": mounts}], "volumes": volumes}
