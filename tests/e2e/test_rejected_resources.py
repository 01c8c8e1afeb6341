"""Broken resources are refused at ``kubectl apply`` with a sentence, and what is stored stays as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.support.buffers import RESOURCE, manifest
from tests.e2e.support.kubectl import CommandError, Json, Kubectl
from tests.e2e.support.namespaces import Namespaces
from tests.helpers.broken_specs import AGAINST_A_RULE, OUT_OF_BOUNDS

STORED = "stored"


@pytest.fixture(scope="module")
def buffers(namespaces: Namespaces) -> Iterator[Kubectl]:
    """Yield kubectl in a namespace with one valid buffer, which no pod can serve."""
    made = namespaces.make("rejected")
    made.apply(manifest(STORED, image="invalid.example/none:1"))
    yield made
    namespaces.remove(made)


def _spec(**changed: object) -> Json:
    base: Json = manifest(STORED, image="invalid.example/none:1")["spec"]
    return base | changed


BROKEN_FROM_THE_START = [
    pytest.param(fields, field, why, id=what) for what, fields, field, why in [*OUT_OF_BOUNDS, *AGAINST_A_RULE]
] + [
    pytest.param({"capasity": 10}, "spec.capasity", "unknown field", id="unknown field"),
    pytest.param(
        {"podTemplate": {"spec": {"affinity": {"nodeAfinity": {}}}}},
        "spec.podTemplate.spec.affinity.nodeAfinity",
        "unknown field",
        id="unknown affinity",
    ),
]
BROKEN_AS_A_CHANGE = [
    pytest.param({"persistence": {"size": "500Mi"}}, "persistence.size", "do not shrink", id="shrinking volume"),
    pytest.param({"embedding": {"dimension": 65}}, "embedding.dimension", "make a new buffer", id="other dimension"),
    pytest.param(
        {"embedding": {"dimension": 64, "metric": "euclidean"}}, "embedding.metric", "make a new", id="other metric"
    ),
    pytest.param(
        {"persistence": {"size": "1Gi", "backend": "file"}}, "persistence.backend", "make a new", id="other store"
    ),
    pytest.param(
        {"persistence": {"size": "1Gi", "storageClassName": "fast"}}, "storageClassName", "make a new", id="other class"
    ),
]


@pytest.mark.parametrize(("changed", "field", "why"), BROKEN_FROM_THE_START)
def test_a_broken_resource_is_refused_with_the_field_and_the_reason(
    buffers: Kubectl, changed: Json, field: str, why: str
) -> None:
    """Nothing is stored, and the sentence names the field."""
    broken = manifest("broken") | {"spec": _spec(**changed)}
    with pytest.raises(CommandError) as refused:
        buffers.apply(broken)
    assert field in str(refused.value)
    assert why in str(refused.value)
    assert buffers.get(RESOURCE, "broken") is None


@pytest.mark.parametrize(("changed", "field", "why"), [*BROKEN_FROM_THE_START, *BROKEN_AS_A_CHANGE])
def test_a_change_that_cannot_be_made_is_refused_and_the_resource_stays(
    buffers: Kubectl, changed: Json, field: str, why: str
) -> None:
    """The sentence names the field, and the stored spec is as it was."""
    before = buffers.existing(RESOURCE, STORED)
    with pytest.raises(CommandError) as refused:
        buffers.apply(manifest(STORED) | {"spec": _spec(**changed)})
    assert field in str(refused.value)
    assert why in str(refused.value)
    after = buffers.existing(RESOURCE, STORED)
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])


def test_kubectl_scale_writes_what_the_rules_allow(buffers: Kubectl) -> None:
    """0 suspends, 1 resumes, 2 is refused with the sentence of the rule."""
    buffers("scale", RESOURCE, STORED, "--replicas=0")
    assert buffers.existing(RESOURCE, STORED)["spec"]["replicas"] == 0
    buffers("scale", RESOURCE, STORED, "--replicas=1")
    with pytest.raises(CommandError, match="one writer"):
        buffers("scale", RESOURCE, STORED, "--replicas=2")
    assert buffers.existing(RESOURCE, STORED)["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("name", "why"),
    [("4ever", "start with a letter"), ("n" * 41, "at most 40 characters"), ("my.buffer", "only lower-case")],
)
def test_a_name_that_no_service_can_have_is_refused(buffers: Kubectl, name: str, why: str) -> None:
    """Names of the other objects are derived from the buffer's."""
    with pytest.raises(CommandError, match=why):
        buffers.apply(manifest(name))
    assert buffers.get(RESOURCE, name) is None
