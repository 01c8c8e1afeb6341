"""Volumes of the tests, and what a storage that can resize them would say.

The provisioner of these clusters gives out folders and resizes nothing: a test that needs a resized volume writes the
claim's status as a resizer does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.support.buffers import Buffer
from tests.e2e.support.kubectl import Json, Kubectl, command

_EXPANDABLE = "xbuf-e2e-expandable"


@contextmanager
def expandable_class() -> Iterator[str]:
    """Yield the name of a StorageClass that is like the default one, but lets claims ask for more."""
    made = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": _EXPANDABLE},
        "provisioner": "rancher.io/local-path",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }
    Kubectl("default").apply(made)
    try:
        yield _EXPANDABLE
    finally:
        command("kubectl", "delete", "storageclass", _EXPANDABLE, "--ignore-not-found")


def owners_of(item: Json) -> list[str]:
    """Return the uids of an object's owners."""
    return [owner["uid"] for owner in item["metadata"].get("ownerReferences", [])]


class Volume:
    """The claim of a buffer."""

    def __init__(self, buffer: Buffer) -> None:
        self._kubectl = buffer.kubectl
        self._name = f"data-{buffer.pod_name}"

    def claim(self) -> Json:
        """Return the claim."""
        return self._kubectl.existing("persistentvolumeclaim", self._name)

    def requested(self) -> str:
        """Return the size that it asks for."""
        size: str = self.claim()["spec"]["resources"]["requests"]["storage"]
        return size

    def resized(self, size: str) -> None:
        """Say as a storage does that it has this size."""
        self._say({"capacity": {"storage": size}, "conditions": []})

    def waits_for_start(self, size: str, since: str) -> None:
        """Say as a storage does that only the file system is left to be resized."""
        condition = {"type": "FileSystemResizePending", "status": "True", "lastTransitionTime": since}
        self._say({"conditions": [condition | {"message": f"waiting for the node to resize to {size}"}]})

    def _say(self, status: Json) -> None:
        patch = json.dumps({"status": status})
        self._kubectl("patch", "pvc", self._name, "--subresource=status", "--type=merge", "--patch", patch)
