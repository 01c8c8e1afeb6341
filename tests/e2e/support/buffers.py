"""One ExperienceBuffer of a test."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from buffer_client import BufferClient
from buffer_service.contract import names
from buffer_service.contract.pointer import Pointer, decode_pointer
from tests.e2e.support.kubectl import Json, Kubectl, condition_of, eventually

RESOURCE = f"{names.PLURAL}.{names.API_GROUP}"
DIMENSION = 64
READY_S = 45.0
"""Bar from ``kubectl apply`` until the condition Ready, on two cores with the image in the node."""


def manifest(name: str = "demo", every_operations: int = 300, **spec: object) -> Json:
    """Return a small buffer that rebuilds without a pause."""
    wanted = {
        "capacity": 100_000,
        "embedding": {"dimension": DIMENSION},
        "rebuild": {"everyOperations": every_operations, "minIntervalSeconds": 0},
        "persistence": {"size": "1Gi"},
    }
    return {
        "apiVersion": f"{names.API_GROUP}/{names.API_VERSION}",
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": wanted | spec,
    }


class Buffer:
    """A buffer by namespace and name, whether it exists or not."""

    def __init__(self, kubectl: Kubectl, name: str = "demo") -> None:
        self.kubectl = kubectl
        self.name = name
        self.pod_name = f"{name}-0"
        self.url = f"http://{name}.{kubectl.namespace}.svc"
        self.selector = f"{names.API_GROUP}/buffer={name}"

    def resource(self) -> Json:
        """Return the custom resource."""
        return self.kubectl.existing(RESOURCE, self.name)

    def status(self) -> Json:
        """Return its status, empty where there is none yet."""
        status: Json = self.resource().get("status", {})
        return status

    def patch(self, spec: Json) -> None:
        """Change fields of the spec."""
        patch = json.dumps({"spec": spec})
        self.kubectl("patch", RESOURCE, self.name, "--type=merge", "--patch", patch)

    def events(self, reason: str) -> list[Json]:
        """Return its Events of that reason."""
        return [event for event in self.kubectl.list("events") if event["reason"] == reason]

    def condition(self, kind: str) -> Json:
        """Return its condition of that type, empty where there is none."""
        return condition_of(self.resource(), kind)

    def wait_condition(self, kind: str, status: str, timeout_s: float, reason: str = "") -> Json:
        """Wait for a condition with this status, and this reason where one is given; returns it."""

        def holds() -> Json | None:
            found = self.condition(kind)
            fits = found.get("status") == status and reason in ("", found.get("reason"))
            return found if fits else None

        return eventually(holds, f"{kind} {status} {reason}; it is {self.condition(kind)}", timeout_s)

    def wait_ready(self, timeout_s: float = READY_S) -> Json:
        """Wait for the condition Ready."""
        return self.wait_condition("Ready", "True", timeout_s)

    def wait_generation(self, generation: int, timeout_s: float = 60.0) -> Json:
        """Wait until at least this generation is served everywhere by the word of the status; returns the index."""

        def served() -> Json | None:
            index: Json = self.status().get("index", {})
            return index if index.get("generation", 0) >= generation and "servedAt" in index else None

        return eventually(served, f"generation {generation} to be served", timeout_s)

    def pod(self) -> Json:
        """Return its pod."""
        return self.kubectl.existing("pod", self.pod_name)

    def pointer(self) -> Pointer:
        """Return the pointer as it is in the ConfigMap."""
        return decode_pointer(
            self.kubectl.existing("configmap", names.pointer_config_map(self.name))["data"][names.POINTER_KEY]
        )

    def token(self, scope: str) -> str:
        """Return the bearer token of that scope."""
        return base64.b64decode(self.kubectl.existing("secret", names.token_secret(self.name))["data"][scope]).decode()

    @contextmanager
    def forwarded(self) -> Iterator[str]:
        """Yield a URL of this machine that leads to the pod behind the Service; ends with that pod."""
        forward = ["kubectl", "--namespace", self.kubectl.namespace, "port-forward", f"service/{self.name}", ":80"]
        with subprocess.Popen(forward, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                line = process.stdout.readline() if process.stdout else ""
                assert line.startswith("Forwarding from "), f"port-forward: {line}"
                yield f"http://{line.split()[2]}"
            finally:
                process.terminate()

    @contextmanager
    def client(self, scope: str = "write") -> Iterator[BufferClient]:
        """Yield a client on this machine."""
        with self.forwarded() as url, BufferClient(url, token=self.token(scope)) as client:
            yield client
