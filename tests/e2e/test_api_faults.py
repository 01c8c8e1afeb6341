"""What an API server may do to the operator: be gone, forget, refuse, ask for patience, fail, fall silent.

The operator runs as a process behind a proxy that injects the fault. After each fault the same objects are there, and
then nothing is written.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support.buffers import RESOURCE, Buffer
from tests.e2e.support.kubectl import Kubectl, eventually
from tests.e2e.support.local_operator import LocalOperator, running
from tests.e2e.support.measured import Measured
from tests.e2e.support.paused import is_settled, names_of, paused_manifest, versions
from tests.helpers.api_proxy import ApiProxy, Write, is_watch
from tests.helpers.waiting import wait_until

CALM_LOOKS = 4
SILENCE_S = 3
CONVERGED_BAR_S = 30.0
OPTIONS = {"poll_s": 0.5, "poll_max_s": 1, "backoff_max_s": 2}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def proxy() -> Iterator[ApiProxy]:
    """Yield a proxy in front of the API server."""
    with ApiProxy() as made:
        yield made


@pytest.fixture
def config(proxy: ApiProxy, tmp_path: Path) -> Path:
    """Return the kubeconfig that leads to the proxy."""
    return proxy.kubeconfig(tmp_path / "kubeconfig")


@pytest.fixture
def served(
    proxy: ApiProxy, config: Path, tmp_path: Path, kubectl: Kubectl, nobody_else: str
) -> Iterator[LocalOperator]:
    """Yield an operator behind the proxy, which serves the namespace of the test and has a buffer at rest."""
    del proxy
    options = OPTIONS | {"watch_silence_s": SILENCE_S, "namespaces": kubectl.namespace}
    with running(tmp_path, nobody_else, config, **options) as operator:
        kubectl.apply(paused_manifest())
        eventually(lambda: is_settled(Buffer(kubectl)), "a buffer at rest", CONVERGED_BAR_S)
        yield operator


def _check_calm(proxy: ApiProxy, operator: LocalOperator) -> None:
    """Several looks and a full resync's worth of reading write nothing."""
    _wait_until_quiet(proxy, operator)
    assert not operator.ended(), operator.log()
    assert "Traceback" not in operator.log()


def _wait_until_quiet(proxy: ApiProxy, operator: LocalOperator) -> None:
    """Wait until ``CALM_LOOKS`` looks have passed without a write."""
    done = "xbuf_operator_reconciles_total"

    def quiet() -> bool:
        before, looks = len(proxy.writes), operator.metric(done)
        wait_until(lambda: operator.metric(done) >= looks + CALM_LOOKS, "looks at the buffer", 30, 0.2)
        return len(proxy.writes) == before

    wait_until(quiet, f"no write when there is nothing to do; {proxy.writes[-5:]}", CONVERGED_BAR_S)


def _capacity(kubectl: Kubectl) -> str:
    container = kubectl.existing("statefulset", "demo")["spec"]["template"]["spec"]["containers"][0]
    return str(next(entry["value"] for entry in container["env"] if entry["name"] == "XBUF_BUFFER__CAPACITY"))


def _uid(kubectl: Kubectl) -> str:
    """Return the identity of the StatefulSet, empty where there is none."""
    found = kubectl.get("statefulset", "demo")
    return str(found["metadata"]["uid"]) if found else ""


def _change_capacity(kubectl: Kubectl, capacity: int) -> None:
    kubectl("patch", RESOURCE, "demo", "--type=merge", "--patch", f'{{"spec":{{"capacity":{capacity}}}}}')


def test_an_api_server_that_was_gone_is_caught_up_with(
    proxy: ApiProxy, served: LocalOperator, kubectl: Kubectl, measured: Measured
) -> None:
    """The process lives on; what was changed and deleted meanwhile is found and mended."""
    before = names_of(kubectl, Buffer(kubectl))
    proxy.disappear()
    _change_capacity(kubectl, 123_456)
    kubectl("delete", "service/demo", "configmap/demo-index", "--wait=false")
    eventually(lambda: served.log().count("watching") >= 9, "every watch to notice", 60)
    proxy.come_back()
    seconds = measured.time(lambda: eventually(lambda: _capacity(kubectl) == "123456", "the change to arrive", 60))
    measured.below("API server back: from its return until the missed change is applied", seconds, CONVERGED_BAR_S)
    eventually(lambda: names_of(kubectl, Buffer(kubectl)) == before, "the same objects", CONVERGED_BAR_S)
    _check_calm(proxy, served)


def test_watches_that_expire_list_again(proxy: ApiProxy, served: LocalOperator, kubectl: Kubectl) -> None:
    """410 Gone on every watch at once; a deletion right after it is mended."""
    before, uid = names_of(kubectl, Buffer(kubectl)), _uid(kubectl)
    proxy.expire_watches()
    kubectl("delete", "statefulset", "demo", "--cascade=orphan", "--wait=false")
    eventually(lambda: _uid(kubectl) not in (uid, ""), "another StatefulSet", CONVERGED_BAR_S)
    eventually(lambda: names_of(kubectl, Buffer(kubectl)) == before, "the same objects", CONVERGED_BAR_S)
    _check_calm(proxy, served)


def test_a_deletion_that_no_watch_told_of_is_noticed(
    proxy: ApiProxy, served: LocalOperator, kubectl: Kubectl, measured: Measured
) -> None:
    """Every watch has fallen silent: open, and without a byte. The time tells, the next list shows what is missing."""
    before = names_of(kubectl, Buffer(kubectl))
    proxy.silence_watches()
    kubectl("delete", "statefulset/demo", "--cascade=orphan")
    kubectl("delete", "service/demo-pods")
    seconds = measured.time(
        lambda: eventually(lambda: names_of(kubectl, Buffer(kubectl)) == before, "the same objects", CONVERGED_BAR_S)
    )
    measured.below(f"silent watches ({SILENCE_S} s): until what was deleted is back", seconds, CONVERGED_BAR_S)
    proxy.come_back()
    _check_calm(proxy, served)


@pytest.mark.parametrize(
    ("status", "times", "headers"),
    [(409, 6, {}), (429, 4, {"Retry-After": "1"}), (500, 6, {}), (503, 6, {"Retry-After": "1"})],
)
def test_writes_that_fail_are_repeated(
    proxy: ApiProxy, served: LocalOperator, kubectl: Kubectl, status: int, times: int, headers: dict[str, str]
) -> None:
    """A conflict, too many requests, an error: another buffer is made all the same, with the same objects."""
    proxy.answer(status, times, headers=headers)
    kubectl.apply(paused_manifest("other"))
    other = Buffer(kubectl, "other")
    eventually(lambda: is_settled(other), "the other buffer to be made", CONVERGED_BAR_S)
    assert proxy.faulty_answers == times
    mine = names_of(kubectl, Buffer(kubectl))
    assert [name.replace("other", "demo") for name in names_of(kubectl, other)] == mine
    _check_calm(proxy, served)


def test_reads_that_fail_are_repeated(proxy: ApiProxy, served: LocalOperator, kubectl: Kubectl) -> None:
    """Every answer to anything but a watch is an error for a while; then all is made."""
    proxy.answer(500, 30, fits=lambda request: not is_watch(request))
    kubectl.apply(paused_manifest("other"))
    other = Buffer(kubectl, "other")
    eventually(lambda: is_settled(other), "the other buffer to be made", CONVERGED_BAR_S)
    _check_calm(proxy, served)


def test_a_buffer_deleted_while_the_api_server_was_gone_leaves_nothing(
    proxy: ApiProxy, served: LocalOperator, kubectl: Kubectl
) -> None:
    """And is not made again by an operator that remembers it."""
    buffer = Buffer(kubectl)
    proxy.disappear()
    kubectl("delete", RESOURCE, buffer.name)
    eventually(lambda: names_of(kubectl, buffer) in ([], ["PersistentVolumeClaim/data-demo-0"]), "it to be gone", 30)
    proxy.come_back()
    kubectl.apply(paused_manifest("other"))
    eventually(lambda: is_settled(Buffer(kubectl, "other")), "the operator to act again", CONVERGED_BAR_S)
    assert names_of(kubectl, buffer) in ([], ["PersistentVolumeClaim/data-demo-0"])
    _check_calm(proxy, served)


def test_an_operator_whose_framework_went_blind_serves_all_the_same(
    proxy: ApiProxy, config: Path, tmp_path: Path, kubectl: Kubectl, nobody_else: str
) -> None:
    """The kinds of the API server are listed first; where that fails kopf watches nothing, and does not end either."""
    proxy.answer(415, 1000, fits=lambda request: request.path.rstrip("/") in ("/api", "/apis"))
    with running(tmp_path, nobody_else, config, namespaces=kubectl.namespace, **OPTIONS) as operator:
        wait_until(lambda: "observer has failed" in operator.log(), "kopf to go blind", 30, 0.2)
        kubectl.apply(paused_manifest())
        eventually(lambda: is_settled(Buffer(kubectl)), "a buffer at rest", CONVERGED_BAR_S)
        _change_capacity(kubectl, 123_456)
        eventually(lambda: _capacity(kubectl) == "123456", "the change to arrive", CONVERGED_BAR_S)
        assert proxy.faulty_answers >= 1


def test_an_operator_that_is_killed_after_every_single_write_gets_there(
    proxy: ApiProxy, config: Path, tmp_path: Path, kubectl: Kubectl, nobody_else: str, measured: Measured
) -> None:
    """Each process lives for one write; the last finds nothing to do, and the objects are those of any other run."""
    alive: list[LocalOperator] = []
    proxy.on_write = lambda _: alive[-1].process.send_signal(signal.SIGKILL)
    kubectl.apply(paused_manifest())
    lives = 0
    while True:
        with running(tmp_path, nobody_else, config, namespaces=kubectl.namespace, **OPTIONS) as operator:
            alive.append(operator)
            wait_until(lambda: operator.ended() or _has_looked(operator), "a write or three looks", 30, 0.2)
            if not operator.ended():
                break
            lives += 1
    measured.note(f"killed after every single write: {lives} lives of one write each, then at rest")
    assert lives == len(proxy.writes) >= 8
    assert is_settled(Buffer(kubectl))
    proxy.on_write = _nothing
    with running(tmp_path, nobody_else, config, namespaces=kubectl.namespace, **OPTIONS) as operator:
        kubectl.apply(paused_manifest("other"))
        other = Buffer(kubectl, "other")
        eventually(lambda: is_settled(other), "the other buffer to be made", CONVERGED_BAR_S)
        assert [name.replace("other", "demo") for name in names_of(kubectl, other)] == names_of(
            kubectl, Buffer(kubectl)
        )
        before = versions(kubectl)
        _check_calm(proxy, operator)
        assert versions(kubectl) == before


def _nothing(_: Write) -> None:
    """Let it live."""


def _has_looked(operator: LocalOperator) -> bool:
    try:
        return operator.metric("xbuf_operator_reconciles_total") >= 3
    except OSError:
        return False
