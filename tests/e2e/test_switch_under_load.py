"""Rebuilds and switches while clients append and search: nobody notices."""

from __future__ import annotations

import pytest

from buffer_service.contract import names
from tests.e2e.support.buffers import Buffer, manifest
from tests.e2e.support.clients import ClientPod, start_load
from tests.e2e.support.kubectl import CommandError, Json, Kubectl, eventually
from tests.e2e.support.measured import Measured

FLIP_BAR_S = 5.0
SWITCHES = 3


@pytest.mark.timeout(240)
def test_no_request_fails_and_no_answer_is_wrong_while_the_index_is_switched(
    kubectl: Kubectl, image: str, measured: Measured
) -> None:
    """Three generations come to be served under a load without retries; each search finds what was acknowledged."""
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    load = start_load(buffer, image)
    flips = [_next_flip(buffer, load, number) for number in range(SWITCHES)]
    result = load.stop()

    assert (result["failures"], result["wrong"]) == ([], [])
    assert (result["lost"], result["not_found"], result["doubled"]) == ([], [], 0)
    assert len(result["generations"]) > SWITCHES
    assert result["generations"] == sorted(result["generations"])
    for flip in flips:
        generation, seconds = flip["generation"], flip["flipToServingSeconds"]
        measured.below(f"from the flip to generation {generation} until it is served, under load", seconds, FLIP_BAR_S)
    measured.note(f"under load: {_figures(result)}")
    buffer.wait_condition("IndexCurrent", "True", 30, "Served")
    buffer.wait_condition("RebuildSucceeded", "True", 30, "Rebuilt")
    measured.note(kubectl("get", "xbuf", "-o", "wide").rstrip())
    _check_job_rights(kubectl, buffer)
    _check_job_mounts(kubectl, buffer)


def _next_flip(buffer: Buffer, load: ClientPod, number: int) -> Json:
    """Wait for the next generation to be served, and for a search that it answers; returns the status about it."""
    load.wait_progress("switches", number + 1)
    return buffer.wait_generation(number + 1)


def _figures(result: Json) -> str:
    shown = ("acknowledged", "searches", "generations", "search_p50_ms", "search_p99_ms", "search_max_ms")
    return ", ".join(f"{name} {result[name]}" for name in shown)


def _check_job_rights(kubectl: Kubectl, buffer: Buffer) -> None:
    """A rebuild may read and move the one pointer, a data pod may do nothing at all."""
    pointer = f"configmaps/{names.pointer_config_map(buffer.name)}"
    job, pod = names.rebuild_service_account(buffer.name), buffer.name
    for verb in ("get", "update"):
        assert _may(kubectl, job, verb, pointer), f"the rebuild cannot {verb} {pointer}"
    refused = [
        (job, "delete", pointer),
        (job, "update", "configmaps/another"),
        (job, "list", "configmaps"),
        (job, "create", "configmaps"),
        (job, "get", f"secrets/{names.token_secret(buffer.name)}"),
        (job, "list", "pods"),
        (job, "create", "jobs"),
        (job, "get", f"{names.PLURAL}/{buffer.name}"),
        (pod, "get", pointer),
        (pod, "get", f"secrets/{names.token_secret(buffer.name)}"),
    ]
    assert [asked for asked in refused if _may(kubectl, *asked)] == []


def _may(kubectl: Kubectl, account: str, verb: str, what: str) -> bool:
    try:
        kubectl("auth", "can-i", verb, what, f"--as=system:serviceaccount:{kubectl.namespace}:{account}")
    except CommandError:
        return False
    return True


def _check_job_mounts(kubectl: Kubectl, buffer: Buffer) -> None:
    """A pod with all that a rebuild's pod is given cannot change the export, and does not see the store."""
    jobs = kubectl.list("jobs", buffer.selector)
    assert jobs, "no Job of a rebuild is left"
    spec = jobs[-1]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    config_map = {"name": "clients", "configMap": {"name": "clients"}}
    mounts = [*container["volumeMounts"], {"name": "clients", "mountPath": "/clients"}]
    container |= {"command": ["python", "/clients/intrude.py"], "volumeMounts": mounts}
    spec |= {"containers": [container], "volumes": [*spec["volumes"], config_map]}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "intruder"}, "spec": spec})
    result = eventually(lambda: ClientPod(kubectl, "intruder").result(), "the intruder's result", 60)
    assert result["export"], "the rebuild's pod sees no export"
    assert result["possible"] == []
