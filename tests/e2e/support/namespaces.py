"""Namespaces of the tests: each its own, under the restricted pod security standard, gone at the end."""

from __future__ import annotations

from tests.e2e.support.kubectl import Json, Kubectl, command

CLIENTS_LABEL = "xbuf-e2e"
"""Label of every namespace that the tests make."""


def namespace_manifest(name: str, pod_security: str = "restricted") -> Json:
    """Return a namespace that admits pods of this standard alone."""
    labels = {CLIENTS_LABEL: "true", "pod-security.kubernetes.io/enforce": pod_security}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


class Namespaces:
    """Makes namespaces and removes them; knows those that are there, for the diagnostics of a failure."""

    def __init__(self, run: str) -> None:
        self._run = run
        self.present: list[str] = []

    def make(self, purpose: str, pod_security: str = "restricted") -> Kubectl:
        """Make a namespace and return its kubectl."""
        name = f"xbuf-e2e-{self._run}-{purpose}"
        Kubectl("default").apply(namespace_manifest(name, pod_security))
        self.present.append(name)
        return Kubectl(name)

    def remove(self, kubectl: Kubectl) -> None:
        """Have a namespace removed; its end is awaited by ``remove_all``."""
        if kubectl.namespace in self.present:
            self.present.remove(kubectl.namespace)
        command("kubectl", "delete", "namespace", kubectl.namespace, "--wait=false", "--ignore-not-found")

    def remove_all(self) -> None:
        """Remove what is left of this run and wait until all is gone."""
        for name in list(self.present):
            self.remove(Kubectl(name))
        names = command("kubectl", "get", "namespace", "--selector", CLIENTS_LABEL, "--output", "name").split()
        mine = [name for name in names if name.startswith(f"namespace/xbuf-e2e-{self._run}-")]
        if mine:
            command("kubectl", "wait", "--for=delete", *mine, "--timeout=90s")
