"""StatefulSets, their pods and their volumes in the model: what the controllers of Kubernetes and a storage do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import msgspec
from buffer_operator.errors import ChangedError, RefusedError, UnavailableError
from buffer_operator.kube.drift import quantity
from buffer_operator.kube.kinds import CLAIM, POD, STATEFUL_SET, Json, Kind
from buffer_operator.resource.conditions import parse_timestamp, timestamp

from tests.unit.operator.model_api import NAMESPACE, ModelApi, copied

ADDRESS = "10.0.0.7"
RETENTION = "persistentVolumeClaimRetentionPolicy"


def revision_of(template: Json) -> str:
    """Return the name that a StatefulSet gives to a template: the same for the same content."""
    return hashlib.sha256(msgspec.json.encode(template, order="sorted")).hexdigest()[:10]


@dataclass
class Workloads(ModelApi):
    """The API server with StatefulSets and volumes; implements the rest of ``Cluster``."""

    no_node: bool = False
    bad_images: set[str] = field(default_factory=set)
    """Images that cannot be pulled."""
    pods_ready: bool = True
    """Whether pods that run get ready."""
    rollouts_get_stuck: bool = False
    """Whether a StatefulSet waits for a pod to get ready before it replaces it, as with ordered pods."""
    last_words: str = "out of memory"
    """What a process says that ends as it starts."""
    budget_blocks: bool = False
    """Whether a disruption budget allows no eviction."""
    expandable: bool = True
    """Whether the StorageClass lets claims grow."""
    resize: Literal["online", "at start", "never", "fails"] = "online"
    """When a claim that asked for more gets it."""

    async def orphan(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """See Cluster. The object is there until the garbage collector has freed what it owns."""
        assert namespace == NAMESPACE
        self._writing(f"orphan {kind.name}")
        found = self._with_uid(kind, name, uid)
        found["metadata"].setdefault("deletionTimestamp", timestamp(self.now))
        self.touch(found)
        self._written()

    async def evict(self, namespace: str, pod: str, uid: str) -> None:
        """See Cluster."""
        assert namespace == NAMESPACE
        self._writing("evict Pod")
        self._with_uid(POD, pod, uid)
        if self.budget_blocks:
            raise UnavailableError("Cannot evict pod as it would violate the pod's disruption budget.")
        self.delete(POD, pod)
        self._written()

    def claim(self, name: str = "data-demo-0") -> Json:
        """Return a volume claim as it is."""
        return self.objects[CLAIM, name]

    def run_workloads(self) -> None:
        """Have every controller act once."""
        for name in self.named(STATEFUL_SET):
            stateful_set = self.objects[STATEFUL_SET, name]
            if "deletionTimestamp" in stateful_set["metadata"]:
                self._finish_orphaning(stateful_set)
            else:
                self._run_stateful_set(stateful_set)
        for name in self.named(CLAIM):
            self._resize(self.objects[CLAIM, name])
        self._collect_garbage()

    def pod_started(self) -> None:
        """A new process runs."""

    def crashes(self) -> bool:
        """Whether the process ends as it starts."""
        return False

    def admit(self, kind: Kind, found: Json, patched: Json) -> None:
        """Raise RefusedError for what an API server refuses of changes."""
        if kind == STATEFUL_SET and found["spec"]["volumeClaimTemplates"] != patched["spec"]["volumeClaimTemplates"]:
            raise RefusedError("updates to statefulset spec for fields other than 'replicas', … are forbidden")
        if kind == CLAIM:
            before, after = _requested(found), _requested(patched)
            if after < before:
                raise RefusedError("field can not be less than status.capacity")
            if after > before and not self.expandable:
                raise RefusedError("the storageclass that provisions the pvc must support resize")

    def _with_uid(self, kind: Kind, name: str, uid: str) -> Json:
        found = self.objects.get((kind, name))
        if found is None or found["metadata"]["uid"] != uid:
            raise ChangedError(f"{kind.name} {name} is not {uid}")
        return found

    def _finish_orphaning(self, stateful_set: Json) -> None:
        uid = stateful_set["metadata"]["uid"]
        for item in self.objects.values():
            owners = item["metadata"].get("ownerReferences", [])
            if any(owner["uid"] == uid for owner in owners):
                item["metadata"]["ownerReferences"] = [owner for owner in owners if owner["uid"] != uid]
                self.touch(item)
        del self.objects[STATEFUL_SET, stateful_set["metadata"]["name"]]

    def _run_stateful_set(self, stateful_set: Json) -> None:
        name, spec = stateful_set["metadata"]["name"], stateful_set["spec"]
        pod = self._pod_to_keep(stateful_set)
        claim = self.objects.get((CLAIM, f"data-{name}-0"))
        if pod is None and claim and "deletionTimestamp" in claim["metadata"]:
            self.delete(CLAIM, f"data-{name}-0")
        if pod is None and spec["replicas"]:
            pod = self._start(stateful_set)
        if pod is not None:
            self._adopt(stateful_set, pod)
            self._own_claim(stateful_set, self.objects[CLAIM, f"data-{name}-0"])
        ready = self.pods_ready and bool(pod and pod.get("status", {}).get("podIP"))
        revision = revision_of(spec["template"])
        stateful_set["status"] = {
            "observedGeneration": stateful_set["metadata"]["generation"],
            "readyReplicas": int(ready),
            "currentRevision": revision if ready else stateful_set.get("status", {}).get("currentRevision", revision),
            "updateRevision": revision,
        }

    def _pod_to_keep(self, stateful_set: Json) -> Json | None:
        name, spec = f"{stateful_set['metadata']['name']}-0", stateful_set["spec"]
        pod = self.objects.get((POD, name))
        if pod is None:
            return None
        outdated = pod["metadata"]["labels"]["controller-revision-hash"] != revision_of(spec["template"])
        waits = self.rollouts_get_stuck and not pod.get("status", {}).get("podIP")
        if not spec["replicas"] or (outdated and not waits):
            self.delete(POD, name)
            return None
        pod["status"] = self._status_of(pod)
        return pod

    def _start(self, stateful_set: Json) -> Json:
        name, spec = stateful_set["metadata"]["name"], stateful_set["spec"]
        claim = f"data-{name}-0"
        if (CLAIM, claim) not in self.objects:
            self._make_claim(claim, spec["volumeClaimTemplates"][0])
        template = spec["template"]
        labels = {**template["metadata"]["labels"], "controller-revision-hash": revision_of(template)}
        metadata = {"name": f"{name}-0", "namespace": NAMESPACE, "labels": labels}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copied(template["spec"])}
        self.put(pod)
        self.pod_started()
        return pod

    def _status_of(self, pod: Json) -> Json:
        if self.no_node:
            message = "0/2 nodes: insufficient nvidia.com/gpu"
            return {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}
        image = pod["spec"]["containers"][0]["image"]
        if image in self.bad_images:
            waiting = {"reason": "ImagePullBackOff", "message": f"Back-off pulling image {image}"}
            return {"containerStatuses": [{"state": {"waiting": waiting}}]}
        if self.crashes():
            ended = {"exitCode": 137, "message": self.last_words, "finishedAt": timestamp(self.now)}
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}
            return {"containerStatuses": [{"state": {"waiting": waiting}, "lastState": {"terminated": ended}}]}
        return {"podIP": ADDRESS, "conditions": [{"type": "Ready", "status": str(self.pods_ready)}]}

    def _make_claim(self, name: str, template: Json) -> None:
        size = template["spec"]["resources"]["requests"]["storage"]
        self.put(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": dict(template["metadata"]["labels"])},
                "spec": copied(template["spec"]),
                "status": {"phase": "Bound", "capacity": {"storage": size}},
            }
        )

    def _adopt(self, stateful_set: Json, pod: Json) -> None:
        owners = pod["metadata"].setdefault("ownerReferences", [])
        if not any(owner.get("controller") for owner in owners):
            owners.append(_owner(stateful_set, controller=True))
            self.touch(pod)

    def _own_claim(self, stateful_set: Json, claim: Json) -> None:
        uid, wanted = stateful_set["metadata"]["uid"], stateful_set["spec"][RETENTION]["whenDeleted"] == "Delete"
        owners = [owner for owner in claim["metadata"].get("ownerReferences", []) if owner["uid"] != uid]
        claim["metadata"]["ownerReferences"] = [*owners, _owner(stateful_set)] if wanted else owners

    def _resize(self, claim: Json) -> None:
        status = claim["status"]
        wanted = claim["spec"]["resources"]["requests"]["storage"]
        if _requested(claim) <= (quantity(status["capacity"]["storage"]) or 0) or self.resize == "never":
            return
        waits = next(iter(status.get("conditions", [])), None)
        if self.resize == "fails":
            status["conditions"] = [{"type": "ControllerResizeError", "status": "True", "message": "quota exceeded"}]
        elif self.resize == "at start" and waits is None:
            at = timestamp(self.now)
            status["conditions"] = [{"type": "FileSystemResizePending", "status": "True", "lastTransitionTime": at}]
        elif self.resize == "online" or (
            waits and self._started_since(claim, parse_timestamp(waits["lastTransitionTime"]))
        ):
            status["capacity"]["storage"] = wanted
            status.pop("conditions", None)

    def _started_since(self, claim: Json, at: float) -> bool:
        pod = self.objects.get((POD, claim["metadata"]["name"].removeprefix("data-")))
        return pod is not None and parse_timestamp(pod["metadata"]["creationTimestamp"]) > at

    def _collect_garbage(self) -> None:
        """Remove what has owners of which none is there any more; of several, strike out those that are not."""
        present = {item["metadata"]["uid"] for item in self.objects.values()}
        for key, item in list(self.objects.items()):
            owners = item["metadata"].get("ownerReferences", [])
            left = [owner for owner in owners if owner["uid"] in present]
            if owners and not left:
                self.delete(*key)
            elif len(left) < len(owners):
                item["metadata"]["ownerReferences"] = left
                self.touch(item)


def _owner(item: Json, *, controller: bool = False) -> Json:
    return {"uid": item["metadata"]["uid"], "name": item["metadata"]["name"], "controller": controller}


def _requested(claim: Json) -> Decimal:
    return quantity(claim["spec"]["resources"]["requests"]["storage"]) or Decimal(0)
