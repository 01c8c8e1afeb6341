"""An API server in memory: objects, resource versions, conflicts, owner references, writes that are counted.

Server-side apply takes whole objects, as it does where every field of a kind has one owner.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import msgspec
from buffer_operator.errors import ChangedError, RefusedError
from buffer_operator.kube import labels
from buffer_operator.kube.cluster import Listing
from buffer_operator.kube.kinds import BUFFER, CONFIG_MAP, EVENT, JOB, POD, Json, Kind, kind_of
from buffer_operator.resource.conditions import timestamp

NAMESPACE = "default"
START = 1_700_000_000.0
SPEC: Json = {"embedding": {"dimension": 64}, "rebuild": {"everyOperations": 500}}


class CrashError(Exception):
    """The operator's process ends here."""


@dataclass
class ModelApi:
    """The API server; implements ``Cluster``."""

    now: float = START
    objects: dict[tuple[Kind, str], Json] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    crash_at_write: int | None = None
    crash_before: bool = False
    unknown_kinds: set[Kind] = field(default_factory=set)
    refuses: dict[str, str] = field(default_factory=dict)
    """Kinds that cannot be applied, and the API server's words about it."""
    job_generations: list[int] = field(default_factory=list)
    _version: int = 0

    def make_buffer(self, name: str = "demo", spec: Json | None = None) -> None:
        """Have a user create a buffer."""
        self.put(
            {
                "apiVersion": BUFFER.api_version,
                "kind": BUFFER.name,
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": copied(spec or SPEC),
            }
        )

    def buffer(self, name: str = "demo") -> Json:
        """Return the buffer as it is."""
        return self.objects[BUFFER, name]

    def change_spec(self, **fields: object) -> None:
        """Have a user change fields of the spec."""
        self.buffer()["spec"].update(fields)
        self.touch(self.buffer(), spec_changed=True)

    def annotate(self, name: str, value: str) -> None:
        """Have a user annotate the buffer."""
        self.buffer()["metadata"].setdefault("annotations", {})[name] = value

    def condition(self, kind: str, name: str = "demo") -> Json:
        """Return a condition of the buffer."""
        return next(entry for entry in self.buffer(name)["status"]["conditions"] if entry["type"] == kind)

    def delete(self, kind: Kind, name: str) -> None:
        """Remove an object, and what it owns."""
        gone = self.objects.pop((kind, name), None)
        if gone is None:
            return
        uid = gone["metadata"]["uid"]
        present = {item["metadata"]["uid"] for item in self.objects.values()}
        for key, child in list(self.objects.items()):
            owners = {owner["uid"] for owner in child["metadata"].get("ownerReferences", [])}
            if uid in owners and not owners & present:
                self.delete(*key)

    def named(self, kind: Kind) -> list[str]:
        """Return the names of all objects of a kind."""
        return sorted(name for found, name in self.objects if found == kind)

    async def knows(self, kind: Kind) -> bool:
        """See Reader."""
        return kind not in self.unknown_kinds

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """See Cluster."""
        assert kind not in self.unknown_kinds
        assert namespace == NAMESPACE
        found: Json | None = copied(self.objects.get((kind, name)))
        return found

    async def list(self, kind: Kind, namespace: str | None, selector: str) -> list[Json]:
        """See Cluster."""
        assert namespace in (NAMESPACE, None)
        key, _, value = selector.partition("=")
        found = [item for (one, _), item in self.objects.items() if one == kind]
        return [copied(item) for item in found if not selector or item["metadata"]["labels"].get(key) == value]

    async def listing(self, kind: Kind, namespace: str | None, selector: str) -> Listing:
        """See ApiCluster."""
        return Listing(await self.list(kind, namespace, selector), str(self._version))

    async def create(self, manifest: Json) -> bool:
        """See Cluster."""
        kind, name = kind_of(manifest), manifest["metadata"]["name"]
        if kind == EVENT and (kind, name) in self.objects:
            return False
        self._writing(f"create {kind.name}")
        if (kind, name) in self.objects:
            return False
        created = copied(manifest)
        for scope, token in created.pop("stringData", {}).items():
            created.setdefault("data", {})[scope] = base64.b64encode(token.encode()).decode()
        if kind == JOB:
            self.job_generations.append(int(created["metadata"]["labels"][labels.GENERATION]))
        self.put(created)
        self._written()
        return True

    async def apply(self, manifest: Json) -> None:
        """See Cluster."""
        kind, name = kind_of(manifest), manifest["metadata"]["name"]
        assert kind not in (CONFIG_MAP, JOB, POD), "only objects that are the operator's alone are applied"
        self._writing(f"apply {kind.name}")
        if kind.name in self.refuses:
            raise RefusedError(self.refuses[kind.name])
        found = self.objects.get((kind, name))
        applied = copied(manifest)
        if found is None:
            self.put(applied)
        else:
            self.admit(kind, found, applied)
            applied["metadata"] = found["metadata"] | applied["metadata"]
            applied |= {"status": found["status"]} if "status" in found else {}
            self.objects[kind, name] = applied
            self.touch(applied, spec_changed=found.get("spec") != applied.get("spec"))
        self._written()

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> None:
        """See Cluster."""
        assert namespace == NAMESPACE
        self._writing(f"patch {kind.name}")
        found = self.objects.get((kind, name))
        version = patch.get("metadata", {}).get("resourceVersion")
        if found is None or version not in (None, found["metadata"]["resourceVersion"]):
            raise ChangedError(f"{kind.name} {name} has changed")
        patched = copied(found)
        _merge(patched, patch)
        self.admit(kind, found, patched)
        self.objects[kind, name] = patched
        self.touch(patched)
        self._written()

    async def remove(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """See Cluster."""
        assert namespace == NAMESPACE
        self._writing(f"remove {kind.name}")
        found = self.objects.get((kind, name))
        if found is None or found["metadata"]["uid"] != uid:
            raise ChangedError(f"{kind.name} {name} has changed")
        self.delete(kind, name)
        self._written()

    async def replace_status(self, resource: Json) -> None:
        """See Cluster."""
        self._writing("status")
        found = self.objects.get((BUFFER, resource["metadata"]["name"]))
        if found is None or found["metadata"]["resourceVersion"] != resource["metadata"]["resourceVersion"]:
            raise ChangedError("the buffer has changed")
        found["status"] = copied(resource["status"])
        self.touch(found)
        self._written()

    def admit(self, kind: Kind, found: Json, patched: Json) -> None:
        """Raise RefusedError for what an API server refuses of changes; it knows of nothing here."""

    def _writing(self, what: str) -> None:
        self.writes.append(what)
        if self.crash_before:
            self._written()

    def _written(self) -> None:
        if self.crash_at_write is not None and len(self.writes) >= self.crash_at_write:
            self.crash_at_write = None
            raise CrashError(self.writes[-1])

    def put(self, manifest: Json) -> None:
        """Store an object as new."""
        self._version += 1
        metadata = manifest["metadata"]
        metadata.setdefault("labels", {})
        metadata |= {
            "uid": f"uid-{self._version}",
            "generation": 1,
            "creationTimestamp": timestamp(self.now),
            "resourceVersion": str(self._version),
        }
        self.objects[kind_of(manifest), metadata["name"]] = manifest

    def touch(self, item: Json, *, spec_changed: bool = False) -> None:
        """Give an object that was changed its next version."""
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        item["metadata"]["generation"] += spec_changed


def copied(item: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Copy what JSON can hold, quickly; anything else fails."""
    return msgspec.json.decode(msgspec.json.encode(item))


def _merge(target: Json, patch: Json) -> None:
    for key, value in patch.items():
        if isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        elif value is None:
            target.pop(key, None)
        else:
            target[key] = value
