"""What a reader of a failure wants to see: the namespaces of the test and the operator, as they were at that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from tests.e2e.support.buffers import RESOURCE
from tests.e2e.support.kubectl import Kubectl
from tests.e2e.support.operator import Operator


def describe(namespaces: Iterable[str]) -> str:
    """Return the state of these namespaces and the end of the operator's log."""
    parts = [_namespace(Kubectl(name)) for name in namespaces]
    log = _tried(lambda: Operator.find().log("--tail=60", "--pod-running-timeout=1s"))
    return "\n".join([*parts, f"== log of the operator\n{log}"])


def _namespace(kubectl: Kubectl) -> str:
    questions = (
        ("get", f"{RESOURCE},statefulsets,jobs,pods,persistentvolumeclaims", "--output", "wide"),
        ("get", RESOURCE, "--output", "yaml"),
        ("get", "events", "--sort-by", ".lastTimestamp"),
    )
    answers = [_tried(partial(kubectl, *question)) for question in questions]
    logs = [f"-- log of {pod}\n{_tried(partial(kubectl, 'logs', pod, '--tail=30'))}" for pod in _pods(kubectl)]
    unfinished = [_tried(partial(kubectl, "describe", pod)) for pod in _pods(kubectl, "status.phase!=Succeeded")]
    return "\n".join([f"== namespace {kubectl.namespace}", *answers, *unfinished, *logs])


def _pods(kubectl: Kubectl, selector: str = "") -> list[str]:
    return _tried(partial(kubectl, "get", "pods", "--field-selector", selector, "--output", "name")).split()


def _tried(question: Callable[[], str]) -> str:
    """What cannot be asked must not hide the failure itself."""
    try:
        return question()
    except AssertionError as error:
        return str(error)
