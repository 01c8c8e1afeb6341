"""What starts a rebuild, each on a real buffer: the Job is annotated with it, the status and an Event tell it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest
from buffer_operator.kube import labels

from buffer_client import BufferClient
from tests.e2e.clients.rows import experience_of, vector_of
from tests.e2e.support.buffers import RESOURCE, Buffer, manifest
from tests.e2e.support.kubectl import Json, Kubectl, eventually
from tests.e2e.support.measured import Measured
from tests.e2e.support.operator import Operator

NEVER = 20_000
"""Operations that none of these tests reaches."""
ASKED_TO_SERVED_BAR_S = 20.0

pytestmark = [pytest.mark.timeout(280), pytest.mark.usefixtures("operator")]


@contextmanager
def _indexed(kubectl: Kubectl, rows: int, rebuild: Json, **spec: object) -> Iterator[tuple[Buffer, BufferClient]]:
    """Yield a buffer with some rows in its first generation, which was asked for by hand."""
    buffer = Buffer(kubectl)
    wanted = {"everyOperations": NEVER, "minIntervalSeconds": 0, **rebuild}
    kubectl.apply(manifest(rebuild=wanted, **spec))
    buffer.wait_ready()
    with buffer.client() as client:
        client.append([experience_of(row) for row in range(rows)])
        _ask(buffer, "first")
        buffer.wait_generation(1)
        yield buffer, client


def _ask(buffer: Buffer, token: str) -> None:
    buffer.kubectl("annotate", "--overwrite", RESOURCE, buffer.name, f"{labels.REBUILD}={token}")


def _wait_for(buffer: Buffer, generation: int, trigger: str, timeout_s: float = 60.0) -> None:
    """Wait for a generation and check that everything names what it was started by."""
    buffer.wait_generation(generation, timeout_s)
    job = buffer.kubectl.existing("job", f"{buffer.name}-rebuild-{generation}")
    annotations = job["metadata"]["annotations"]
    assert annotations[labels.TRIGGER] == trigger
    pods = buffer.kubectl.list("pods", f"batch.kubernetes.io/job-name={job['metadata']['name']}")
    assert {pod["spec"]["nodeName"] for pod in pods} == {buffer.pod()["spec"]["nodeName"]}, "where the volume is"
    found = eventually(lambda: _rebuild(buffer, generation), f"the status of generation {generation}", 10)
    assert (found["trigger"], found["message"]) == (trigger, annotations[labels.TRIGGER_MESSAGE])
    wanted = f"Job {job['metadata']['name']} was started: {found['message']}."
    eventually(lambda: wanted in _events(buffer.kubectl), f"the Event: {wanted}", 10)


def _rebuild(buffer: Buffer, generation: int) -> Json | None:
    found: Json = buffer.status().get("rebuild", {})
    return found if found.get("lastGeneration") == generation and "job" not in found else None


def _events(kubectl: Kubectl) -> list[str]:
    return [event["message"] for event in kubectl.list("events") if event["reason"] == "RebuildStarted"]


def test_bounds_and_requests_by_hand(kubectl: Kubectl, measured: Measured) -> None:
    """Delta rows, tombstones, operations, a new value of the annotation: each starts one rebuild and is named."""
    rebuild = {"deltaRows": 50, "tombstoneShare": "0.2"}
    with _indexed(kubectl, 200, rebuild) as (buffer, client):
        client.append([experience_of(row) for row in range(200, 250)])
        _wait_for(buffer, 2, "Delta")
        for number in [found.id for found in client.page(limit=60).experiences]:
            client.remove(number)
        _wait_for(buffer, 3, "Tombstones")
        kubectl.apply(manifest(rebuild={"everyOperations": 30, "minIntervalSeconds": 0}))
        client.append([experience_of(row) for row in range(250, 280)])
        _wait_for(buffer, 4, "Operations")
        asked_at = time.monotonic()
        _ask(buffer, "by hand")
        buffer.wait_generation(5)
        measured.below("from a request by hand until its generation is served", time.monotonic() - asked_at, 20.0)
        _wait_for(buffer, 5, "Manual")
        assert client.search(vector_of(279), k=1).ids.shape == (1, 1)


def test_low_recall_of_live_searches(kubectl: Kubectl) -> None:
    """An index that looks at one list of many finds too little: what clients get starts the rebuild."""
    index = {"type": "ivf", "probes": 1, "recallFloor": "0", "recallShare": "1"}
    with _indexed(kubectl, 3000, {"recallBelow": "0.99"}, index=index) as (buffer, client):
        client.append([experience_of(3000)])
        drawn = np.random.default_rng(7)
        eventually(lambda: _searched(client, drawn) is not None, "enough searches to be checked", 60)
        _wait_for(buffer, 2, "Recall")
        assert "the bound is 0.99" in buffer.status()["rebuild"]["message"]


def test_the_schedule(kubectl: Kubectl) -> None:
    """Each minute, where something has changed; the status says when the next one is due."""
    with _indexed(kubectl, 100, {"schedule": "* * * * *"}) as (buffer, client):
        client.append([experience_of(100)])
        _wait_for(buffer, 2, "Schedule", timeout_s=100)
        status = buffer.status()
        assert status["nextRebuild"]["reason"] == "Schedule"
        due = datetime.fromisoformat(status["nextRebuild"]["at"]).timestamp()
        assert due - datetime.fromisoformat(status["rebuild"]["lastScheduleTime"]).timestamp() == 60


def test_the_limit_over_all_buffers(kubectl: Kubectl, operator: Operator) -> None:
    """With one rebuild at a time three buffers that are due together are served one after the other, none is left."""
    buffers = [Buffer(kubectl, name) for name in ("a", "b", "c")]
    kubectl.apply(*(manifest(one.name, every_operations=NEVER) for one in buffers))
    for one in buffers:
        one.wait_ready()
        with one.client() as client:
            client.append([experience_of(row) for row in range(300)])
    with operator.with_setting("rebuilds_max", 1):
        for one in buffers:
            _ask(one, "all at once")
        for one in buffers:
            one.wait_generation(1, timeout_s=120)
    for one in buffers:
        assert "waitingSince" not in one.status()["rebuild"]
    jobs = eventually(lambda: _ended(kubectl, len(buffers)), "the end of all Jobs", 30)
    runs = sorted(_run(job) for job in jobs)
    assert _overlaps(runs) == [], runs


def _searched(client: BufferClient, drawn: np.random.Generator) -> float | None:
    """Search a little and return the recall of live searches, as far as enough have been checked."""
    client.search(drawn.standard_normal((20, 64)).astype(np.float32), k=10)
    return client.status().recall


def _ended(kubectl: Kubectl, count: int) -> list[Json] | None:
    jobs = [job for job in kubectl.list("jobs") if "completionTime" in job.get("status", {})]
    return jobs if len(jobs) == count else None


def _run(job: Json) -> tuple[float, float]:
    status = job["status"]
    return tuple(datetime.fromisoformat(status[name]).timestamp() for name in ("startTime", "completionTime"))  # type: ignore[return-value]


def _overlaps(runs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(end, begin) for (_, end), (begin, _) in pairwise(runs) if begin < end]
