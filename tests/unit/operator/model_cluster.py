"""A small cluster in memory: an API server, the controllers that act on our objects, and the processes in the pods.

StatefulSets make pods, Jobs end, pods follow a pointer or refuse it. Time stands still unless told to pass.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from buffer_operator.errors import UnavailableError
from buffer_operator.kube import labels
from buffer_operator.kube.drift import quantity
from buffer_operator.kube.kinds import CLAIM, CONFIG_MAP, JOB, POD, SECRET, Json
from buffer_operator.observing.pods import Exported
from buffer_operator.resource.conditions import parse_timestamp, timestamp

from buffer_service.contract import names
from buffer_service.contract.pointer import INITIAL, Pointer, decode_pointer, encode_pointer, successor
from buffer_service.contract.status import Backend, Refusal, ServiceStatus, StoreHealth, Switch
from tests.unit.operator.model_api import START
from tests.unit.operator.model_workloads import ADDRESS, Workloads


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
    tombstones: int = 0
    recall: float | None = None
    used_bytes: int = 0
    unwritable: str = ""
    """Why the store takes no writes; empty while it does."""


@dataclass
class ModelCluster(Workloads):
    """The cluster and everything in it; implements ``Cluster`` and ``PodApi``."""

    process: Process = field(default_factory=Process)
    bad_generations: set[int] = field(default_factory=set)
    deadly_generations: set[int] = field(default_factory=set)
    """The process does not survive loading these."""
    dies_when_full: bool = False
    """Whether the process cannot start on a full volume."""
    jobs_fail: bool = False
    jobs_hold: bool = False
    exports_fail: bool = False
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
            index_recall=0.9876 if process.pointer.generation else None,
            index_built_at=START + process.pointer.generation if process.pointer.generation else None,
            delta_rows=process.sequence - process.watermark,
            tombstones=process.tombstones,
            recall=process.recall,
            pending_operations=process.sequence - process.watermark,
            backend=Backend(requested="auto", active=process.active_backend, reason="no GPU can be used"),
            store=self._store_health(process),
            rss_bytes=1,
            rebuild_running=False,
            rebuild_error="",
            switch=process.switch,
            refused=process.refused,
        )

    def _store_health(self, process: Process) -> StoreHealth:
        why = process.unwritable
        return StoreHealth(backend="lmdb", writable=not why, reason=why, size_bytes=1, **self._volume())

    async def export(self, address: str, token: str) -> Exported:
        """See PodApi."""
        self._expect(address, token)
        if self.exports_fail:
            raise UnavailableError("POST /v1/admin/export answered 507: the disk is full")
        self.process.exported = self.process.sequence
        return Exported(watermark=self.process.exported, rows=self.process.size)

    def _expect(self, address: str, token: str) -> None:
        volumes = self.objects[POD, "demo-0"]["spec"]["volumes"]
        mounted = next(volume["secret"]["secretName"] for volume in volumes if volume["name"] == "tokens")
        secret = self.objects.get((SECRET, mounted))
        if address != ADDRESS or secret is None or base64.b64decode(secret["data"]["admin"]).decode() != token:
            raise UnavailableError("GET /v1/status answered 401")

    def step(self, seconds: float = 3.0) -> None:
        """Let time pass and every controller act once."""
        self.now += seconds
        self.run_workloads()
        for name in self.named(JOB):
            self._run_job(name)
        for name in self.named(POD):
            self._follow(self.objects[POD, name])

    def pod_started(self) -> None:
        """A new process has forgotten what it refused."""
        self.process.switch = self.process.refused = None

    def _volume(self) -> dict[str, int]:
        claim = self.objects.get((CLAIM, "data-demo-0"))
        size = int(quantity(claim["status"]["capacity"]["storage"]) or 0) if claim else 0
        return {"volume_size_bytes": size, "volume_free_bytes": max(0, size - self.process.used_bytes)}

    def crashes(self) -> bool:
        """Whether the process ends as it starts."""
        volume = self._volume()
        if self.dies_when_full and volume["volume_size_bytes"] and not volume["volume_free_bytes"]:
            return True
        try:
            return self.pointer().generation in self.deadly_generations
        except (KeyError, ValueError):
            return False

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
        if (
            self.crashes()
            or not self.pods_follow
            or poked != str(pointer.revision)
            or pointer.revision <= process.pointer.revision
        ):
            return
        if pointer.generation in self.bad_generations and pointer.generation != process.pointer.generation:
            process.refused = Refusal(
                revision=pointer.revision, generation=pointer.generation, reason="a canary was not found.", at=self.now
            )
            return
        if pointer.generation == 0:
            process.refused = Refusal(
                revision=pointer.revision, generation=0, reason="it names no generation", at=self.now
            )
            return
        process.pointer, process.watermark, process.refused = pointer, pointer.watermark, None
        process.tombstones, process.recall = 0, None
        process.switch = Switch(
            generation=pointer.generation,
            revision=pointer.revision,
            at=self.now,
            since_flip_s=self.now - pointer.flipped_at,
            load_s=0.1,
        )
