"""A small cluster in memory: an API server, the controllers that act on our objects, and the processes in the pods.

StatefulSets make pods, Jobs end, pods follow a pointer or refuse it. Time stands still unless told to pass.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from buffer_operator import labels
from buffer_operator.conditions import parse_timestamp, timestamp
from buffer_operator.errors import UnavailableError
from buffer_operator.kinds import CLAIM, CONFIG_MAP, JOB, POD, STATEFUL_SET, Json
from buffer_operator.pods import Exported

from buffer_service.contract import names
from buffer_service.contract.pointer import INITIAL, Pointer, decode_pointer, encode_pointer, successor
from buffer_service.contract.status import Backend, Refusal, ServiceStatus, StoreHealth, Switch
from tests.unit.operator.model_api import NAMESPACE, ModelApi, copied

ADDRESS = "10.0.0.7"


@dataclass
class Process:
    """The buffer's process in the pod; its content is on the volume and outlives it."""

    sequence: int = 0
    size: int = 0
    watermark: int = 0
    exported: int = 0
    pointer: Pointer = INITIAL
    switch: Switch | None = None
    refused: Refusal | None = None
    active_backend: str = "cpu"


@dataclass
class ModelCluster(ModelApi):
    """The cluster and everything in it; implements ``Cluster`` and ``PodApi``."""

    process: Process = field(default_factory=Process)
    bad_generations: set[int] = field(default_factory=set)
    jobs_fail: bool = False
    jobs_hold: bool = False
    exports_fail: bool = False
    no_node: bool = False
    pods_follow: bool = True

    def append(self, count: int) -> None:
        """Have clients append experiences."""
        self.process.sequence += count
        self.process.size += count

    def pointer(self) -> Pointer:
        """Return the pointer in the ConfigMap."""
        return decode_pointer(self.objects[CONFIG_MAP, "demo-index"]["data"][names.POINTER_KEY])

    async def status(self, address: str, token: str) -> ServiceStatus:
        """See PodApi."""
        self._expect(address, token)
        process = self.process
        return ServiceStatus(
            version="1",
            started_at=self.now,
            dimension=64,
            metric="cosine",
            sequence=process.sequence,
            size=process.size,
            capacity=100_000,
            generation=process.pointer.generation,
            pointer_revision=process.pointer.revision,
            watermark=process.watermark,
            index_type="flat",
            index_rows=process.watermark,
            delta_rows=process.sequence - process.watermark,
            tombstones=0,
            pending_operations=process.sequence - process.watermark,
            backend=Backend(requested="auto", active=process.active_backend, reason="no GPU can be used"),
            store=StoreHealth(backend="lmdb", writable=True, reason="", size_bytes=1),
            rss_bytes=1,
            rebuild_running=False,
            rebuild_error="",
            switch=process.switch,
            refused=process.refused,
        )

    async def export(self, address: str, token: str) -> Exported:
        """See PodApi."""
        self._expect(address, token)
        if self.exports_fail:
            raise UnavailableError("POST /v1/admin/export answered 507: the disk is full")
        self.process.exported = self.process.sequence
        return Exported(watermark=self.process.exported, rows=self.process.size)

    def _expect(self, address: str, token: str) -> None:
        secret = next((item for (_, name), item in self.objects.items() if name == "demo-token"), None)
        if address != ADDRESS or secret is None or base64.b64decode(secret["data"]["admin"]).decode() != token:
            raise UnavailableError("GET /v1/status answered 401")

    def step(self, seconds: float = 3.0) -> None:
        """Let time pass and every controller act once."""
        self.now += seconds
        for name in self.named(STATEFUL_SET):
            self._run_stateful_set(self.objects[STATEFUL_SET, name])
        for name in self.named(JOB):
            self._run_job(name)
        for name in self.named(POD):
            self._follow(self.objects[POD, name])

    def _run_stateful_set(self, stateful_set: Json) -> None:
        name = stateful_set["metadata"]["name"]
        template = stateful_set["spec"]["template"]
        pod = self.objects.get((POD, f"{name}-0"))
        if pod is not None and pod["spec"] != template["spec"]:
            self.delete(POD, f"{name}-0")
            pod = None
        if pod is None:
            owner = {"uid": stateful_set["metadata"]["uid"], "controller": True}
            metadata = {"name": f"{name}-0", "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
            metadata["ownerReferences"] = [owner]
            self.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copied(template["spec"])})
            self.process.switch = self.process.refused = None
            if (CLAIM, f"data-{name}-0") not in self.objects:
                claim = {"name": f"data-{name}-0", "namespace": NAMESPACE}
                self.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claim})
        elif self.no_node:
            scheduled = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes: insufficient nvidia.com/gpu"}
            pod["status"] = {"conditions": [scheduled]}
        else:
            pod["status"] = {"podIP": ADDRESS, "conditions": [{"type": "Ready", "status": "True"}]}
        ready = bool(pod and pod.get("status", {}).get("podIP"))
        stateful_set["status"] = {
            "observedGeneration": stateful_set["metadata"]["generation"],
            "readyReplicas": int(ready),
            "currentRevision": "1",
            "updateRevision": "1",
        }

    def _run_job(self, name: str) -> None:
        job = self.objects[JOB, name]
        end = job.get("status", {}).get("conditions")
        if end:
            if self.now > self._finished_at(job) + job["spec"]["ttlSecondsAfterFinished"]:
                self.delete(JOB, name)
            return
        if self.jobs_hold:
            return
        failed = self.jobs_fail or (CONFIG_MAP, "demo-index") not in self.objects
        if not failed:
            self._flip(int(job["metadata"]["labels"][labels.GENERATION]))
        ended = {"status": "True", "lastTransitionTime": timestamp(self.now)}
        job["status"] = {"conditions": [{"type": "Failed" if failed else "Complete", "message": "it broke", **ended}]}

    def _finished_at(self, job: Json) -> float:
        return parse_timestamp(job["status"]["conditions"][0]["lastTransitionTime"])

    def _flip(self, generation: int) -> None:
        config_map = self.objects[CONFIG_MAP, "demo-index"]
        try:
            current = self.pointer()
        except ValueError:
            return
        if current.generation >= generation:
            return
        moved = successor(
            current,
            generation=generation,
            watermark=self.process.exported,
            manifest_sha256=f"{generation:064x}",
            reason="rebuild",
            now=self.now,
        )
        config_map["data"][names.POINTER_KEY] = encode_pointer(moved)
        self.touch(config_map)

    def _follow(self, pod: Json) -> None:
        """The kubelet refreshes the mount of a pod whose annotation has changed; the process looks at it."""
        poked = pod["metadata"].get("annotations", {}).get(labels.POINTER_REVISION)
        try:
            pointer = self.pointer()
        except (KeyError, ValueError):
            return
        process = self.process
        if not self.pods_follow or poked != str(pointer.revision) or pointer.revision <= process.pointer.revision:
            return
        if pointer.generation in self.bad_generations and pointer.generation != process.pointer.generation:
            process.refused = Refusal(
                revision=pointer.revision, generation=pointer.generation, reason="a canary was not found.", at=self.now
            )
            return
        process.pointer, process.watermark = pointer, pointer.watermark
        process.switch = Switch(
            generation=pointer.generation,
            revision=pointer.revision,
            at=self.now,
            since_flip_s=self.now - pointer.flipped_at,
            load_s=0.1,
        )
