"""The operator that is installed in the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.support.kubectl import Json, Kubectl, command, eventually

CHART_NAME = "experience-buffer-operator"
_SELECTOR = f"app.kubernetes.io/name={CHART_NAME}"
_READY_S = 60.0


class Operator:
    """One Deployment of the operator and the Helm release that it came with."""

    def __init__(self, namespace: str, name: str, release: str) -> None:
        self.kubectl = Kubectl(namespace)
        self.name = name
        self.release = release

    @classmethod
    def find(cls) -> Operator:
        """Return the one that is installed; fails where there is none."""
        text = command("kubectl", "get", "deployments", "-A", "--selector", _SELECTOR, "--output", "json")
        found: list[Json] = json.loads(text)["items"]
        assert found, "no operator is installed in this cluster: run make cluster-up, or install the chart"
        metadata = found[0]["metadata"]
        return cls(metadata["namespace"], metadata["name"], metadata["labels"]["app.kubernetes.io/instance"])

    @property
    def image(self) -> str:
        """The image that it runs from, and that new buffers get."""
        deployment = self.kubectl.existing("deployment", self.name)
        image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        return image

    def pods(self) -> list[Json]:
        """Return its pods, those that are ending included."""
        return list(self.kubectl.list("pods", f"{_SELECTOR},app.kubernetes.io/instance={self.release}"))

    def ask(self, path: str) -> str:
        """Ask its port of probes and metrics through the API server."""
        root = f"/api/v1/namespaces/{self.kubectl.namespace}/services/{self.name}:operations/proxy"
        return self.kubectl("get", "--raw", f"{root}{path}")

    def metric(self, name: str, **labels: str) -> float:
        """Return one of its metrics, 0 where it has not been counted yet."""
        wanted = name + ("{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else "")
        lines = (line.rsplit(" ", 1) for line in self.ask("/metrics").splitlines())
        return next((float(value) for key, value in lines if key == wanted), 0.0)

    def log(self, *arguments: str) -> str:
        """Return the log of the process that runs now."""
        return self.kubectl("logs", f"deployment/{self.name}", *arguments)

    def restart(self) -> None:
        """Replace its pod and wait until the new one is ready."""
        self.kubectl("rollout", "restart", f"deployment/{self.name}")
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it runs; the Deployment has one pod then."""
        self.kubectl("rollout", "status", f"deployment/{self.name}", f"--timeout={_READY_S:.0f}s")
        eventually(lambda: len(self.pods()) == 1, "one pod of the operator", _READY_S)

    @contextmanager
    def with_setting(self, name: str, value: object) -> Iterator[None]:
        """Run it with another value of one of its settings for a while."""
        variable = f"XBUF_OPERATOR_{name.upper()}"
        container = self.kubectl.existing("deployment", self.name)["spec"]["template"]["spec"]["containers"][0]
        before = next((entry["value"] for entry in container["env"] if entry["name"] == variable), None)
        self.kubectl("set", "env", f"deployment/{self.name}", f"{variable}={value}")
        try:
            self.wait_ready()
            yield
        finally:
            restored = f"{variable}-" if before is None else f"{variable}={before}"
            self.kubectl("set", "env", f"deployment/{self.name}", restored)
            self.wait_ready()

    @contextmanager
    def away_from(self, node: str) -> Iterator[None]:
        """Run it on another node for a while."""
        rule = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [rule]}}
        self._patch_affinity({"nodeAffinity": required})
        try:
            self.wait_ready()
            yield
        finally:
            self._patch_affinity(None)
            self.wait_ready()

    def _patch_affinity(self, affinity: Json | None) -> None:
        patch = {"spec": {"template": {"spec": {"affinity": affinity}}}}
        self.kubectl("patch", f"deployment/{self.name}", "--type=merge", "--patch", json.dumps(patch))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have no operator for a while; afterwards there are as many as before."""
        replicas = self.kubectl.existing("deployment", self.name)["spec"]["replicas"]
        self.kubectl("scale", f"deployment/{self.name}", "--replicas=0")
        try:
            eventually(lambda: not self.pods(), "the operator to be gone", _READY_S)
            yield
        finally:
            self.kubectl("scale", f"deployment/{self.name}", f"--replicas={replicas}")
            if replicas:
                self.wait_ready()
