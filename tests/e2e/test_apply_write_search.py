"""From ``kubectl apply`` of the sample to a learner in the cluster, and back to nothing but the volume.

The tests of this file share the buffer ``demo`` in the namespace ``default``, as the README has it, and run in order.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

from buffer_client import BufferClient, Experience
from buffer_client.errors import ForbiddenError, UnauthorizedError
from buffer_service.contract import names
from tests.e2e.support.buffers import DIMENSION, READY_S, RESOURCE, Buffer
from tests.e2e.support.kubectl import Json, Kubectl, condition_of, eventually
from tests.e2e.support.measured import Measured
from tests.e2e.support.operator import Operator
from tests.helpers.vectors import unit_vectors

SAMPLES = Path(__file__).parent.parent.parent / "configs" / "samples"
DEMO = str(SAMPLES / "demo.yaml")
CLAIM = "persistentvolumeclaim/data-demo-0"
OWNED = "statefulsets,services,configmaps,secrets,serviceaccounts,roles,rolebindings,jobs"
VECTORS = unit_vectors(20, DIMENSION)


@dataclass
class Demo:
    """The buffer, how long it took, and the ids of VECTORS in it."""

    buffer: Buffer
    ready_s: float
    ids: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def demo(operator: Operator) -> Iterator[Demo]:
    """Yield the sample buffer when it is ready; nothing of it is left at the end."""
    del operator
    kubectl = Kubectl("default")
    buffer = Buffer(kubectl)
    if "E2E_KUBECONFIG" in os.environ:
        assert kubectl.get(RESOURCE, buffer.name) is None, "default/demo exists already in a cluster that is not ours"
    _remove(kubectl)
    began = time.monotonic()
    kubectl("apply", "--filename", DEMO)
    buffer.wait_ready()
    yield Demo(buffer, time.monotonic() - began)
    _remove(kubectl)


def _remove(kubectl: Kubectl) -> None:
    kubectl("delete", f"{RESOURCE}/demo", "job/digits", "--ignore-not-found", "--timeout=60s")
    eventually(lambda: kubectl.get("pod", "demo-0") is None, "the pod to be gone", 60)
    kubectl("delete", CLAIM, "--ignore-not-found", "--timeout=60s")


def test_the_sample_becomes_ready_within_its_bar(demo: Demo, measured: Measured) -> None:
    """Phase, conditions and the volume say so."""
    measured.below("from kubectl apply until Ready", demo.ready_s, READY_S)
    eventually(lambda: demo.buffer.status()["phase"] == "Ready", "the phase Ready", 10)
    claim = demo.buffer.kubectl.existing(*CLAIM.split("/"))
    assert claim["status"]["phase"] == "Bound"
    assert demo.buffer.condition("IndexCurrent")["reason"] == "NoGeneration"


def test_every_object_belongs_to_the_buffer_and_nothing_has_a_finalizer(demo: Demo) -> None:
    """The objects of the contract are there, owned by the resource, so that they leave with it."""
    found = demo.buffer.kubectl.list(OWNED, demo.buffer.selector)
    assert {(one["kind"], one["metadata"]["name"]) for one in found} == {
        ("StatefulSet", "demo"),
        ("Service", "demo"),
        ("Service", names.headless_service("demo")),
        ("ConfigMap", names.pointer_config_map("demo")),
        ("Secret", names.token_secret("demo")),
        ("ServiceAccount", "demo"),
        ("ServiceAccount", names.rebuild_service_account("demo")),
        ("Role", names.rebuild_service_account("demo")),
        ("RoleBinding", names.rebuild_service_account("demo")),
    }
    uid = demo.buffer.resource()["metadata"]["uid"]
    for one in found:
        assert [owner["uid"] for owner in one["metadata"]["ownerReferences"]] == [uid], one["metadata"]["name"]
    everything = [demo.buffer.resource(), demo.buffer.pod(), *found]
    assert [one["metadata"]["name"] for one in everything if one["metadata"].get("finalizers")] == []


def test_the_pod_has_no_credentials_of_the_api(demo: Demo) -> None:
    """No token of its ServiceAccount is mounted."""
    spec = demo.buffer.pod()["spec"]
    assert spec["automountServiceAccountToken"] is False
    mounted = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounted == {names.DATA_PATH, names.POINTER_PATH, names.TOKENS_PATH, "/tmp"}  # noqa: S108 - in the pod


def test_what_is_written_through_the_service_is_found_at_once(demo: Demo) -> None:
    """Every vector finds its own id, also by a client that did not write it."""
    with demo.buffer.client() as writer, demo.buffer.client("read") as reader:
        result = writer.append([Experience(visual=vector, confidence=0.5) for vector in VECTORS])
        demo.ids = result.ids.tolist()
        assert reader.search(VECTORS, k=1, min_sequence=result.sequence).ids[:, 0].tolist() == demo.ids
        assert reader.status().size == len(VECTORS)


def test_a_token_is_needed_and_its_scope_counts(demo: Demo) -> None:
    """401 without a token or with a wrong one, 403 for a write with the token for reading."""
    with demo.buffer.forwarded() as url:
        assert httpx.get(f"{url}/v1/status").status_code == 401
        with BufferClient(url, token="wrong") as stranger, pytest.raises(UnauthorizedError):  # noqa: S106
            stranger.search(VECTORS, k=1)
        with BufferClient(url, token=demo.buffer.token("read")) as reader, pytest.raises(ForbiddenError):
            reader.append(Experience(visual=VECTORS[0], confidence=0.5))


def test_kubectl_get_shows_the_state(demo: Demo) -> None:
    """The columns and their values."""
    kubectl = demo.buffer.kubectl
    eventually(lambda: demo.buffer.status()["records"] == len(VECTORS), "the records in the status", 20)
    columns = _table(kubectl("get", names.SHORT_NAME, "demo"))
    assert list(columns) == ["NAME", "PHASE", "READY", "RECORDS", "GENERATION", "AGE"]
    age = columns.pop("AGE")
    assert columns == {"NAME": "demo", "PHASE": "Ready", "READY": "1/1", "RECORDS": "20", "GENERATION": "0"}
    assert age[-1] in "sm"
    wide = _table(kubectl("get", names.SHORT_NAME, "demo", "--output", "wide"))
    assert (wide["BACKEND"], wide["PENDING"]) == ("cpu", "20")
    assert wide["ENDPOINT"] == "http://demo.default.svc"


def _table(text: str) -> dict[str, str]:
    """Return the one row of a table by column; an empty cell shows where a column has no value."""
    header, row = text.splitlines()
    starts = [place for place in range(len(header)) if header[place] != " " and header[place - 1 : place] in ("", " ")]
    ends = [*starts[1:], max(len(header), len(row))]
    return {header[begin:end].strip(): row[begin:end].strip() for begin, end in zip(starts, ends, strict=True)}


@pytest.mark.timeout(420)
def test_the_digits_are_learnt_in_the_cluster_while_the_index_is_switched(
    demo: Demo, image: str, measured: Measured
) -> None:
    """The sample Job ends well: it checks learning, switches, failures and content by itself."""
    kubectl = demo.buffer.kubectl
    job = str(SAMPLES / "digits-job.yaml")
    command_with_image = ("set", "image", "--local", "--output", "yaml", "--filename", job, f"digits={image}")
    began = time.monotonic()
    kubectl("apply", "--filename", "-", stdin=kubectl(*command_with_image))
    eventually(lambda: _ended(kubectl.existing("job", "digits")), "the digits to be learnt", 400)
    log = kubectl("logs", "job/digits", "--tail=20")
    assert condition_of(kubectl.existing("job", "digits"), "Complete").get("status") == "True", log
    measured.note(f"{time.monotonic() - began:7.2f} s  the digits in the cluster\n{log.rstrip()}")
    demo.buffer.wait_generation(2)
    eventually(lambda: demo.buffer.status()["records"] >= 1797 + len(VECTORS), "all records in the status", 20)
    measured.note(kubectl("get", names.SHORT_NAME, "demo", "--output", "wide").rstrip())


def _ended(job: Json) -> bool:
    return any(condition_of(job, kind).get("status") == "True" for kind in ("Complete", "Failed"))


@pytest.mark.timeout(240)
def test_deletion_leaves_the_volume_and_a_new_buffer_of_that_name_takes_it_up(demo: Demo, measured: Measured) -> None:
    """All objects go, the claim stays; afterwards every experience is there and found, and numbers go on."""
    kubectl, buffer = demo.buffer.kubectl, demo.buffer
    with buffer.client("read") as client:
        records, before = client.status().size, buffer.status()["index"]["generation"]
    kubectl("delete", "--filename", DEMO, "--timeout=30s")
    began = time.monotonic()
    eventually(lambda: not kubectl.list(f"{OWNED},pods", buffer.selector), "all but the volume to be gone", 60)
    measured.below("from deletion until all but the volume is gone", time.monotonic() - began, 60)
    assert kubectl.existing(*CLAIM.split("/"))["status"]["phase"] == "Bound"

    kubectl("apply", "--filename", DEMO)
    buffer.wait_ready()
    with buffer.client("read") as client:
        assert client.status().size == records
        assert client.search(VECTORS, k=1).ids[:, 0].tolist() == demo.ids
        assert np.allclose(np.array([client.get(known).vector for known in demo.ids]), VECTORS, atol=1e-6)
    assert buffer.wait_generation(before + 1)["count"] == records
