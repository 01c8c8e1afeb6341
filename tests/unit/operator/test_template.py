"""The pod template: stable from one version of the operator to the next, and changed only by fields that pods need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from buffer_operator.builders.statefulset import stateful_set
from buffer_operator.kube.kinds import Json
from buffer_operator.resource.spec import parse_spec

from tests.unit.operator.manifests import a_buffer

GOLDEN: Json = json.loads((Path(__file__).parent / "golden" / "stateful_sets.json").read_text())
"""StatefulSets as version 0.1.0 of the operator made them; never to be regenerated for specs that are in it."""
BASE: Json = {"embedding": {"dimension": 64}}


def _stateful_set(fields: Json) -> Json:
    spec = parse_spec(fields)
    return stateful_set(a_buffer(), spec, spec.image or "image:1", spec.persistence.size)


def _template(fields: Json) -> Json:
    template: Json = _stateful_set(fields)["spec"]["template"]
    return template


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_template_is_byte_for_byte_that_of_the_version_before(name: str) -> None:
    """An upgrade of the operator changes no template, so it restarts no pod."""
    assert json.dumps(_template(GOLDEN[name]["spec"])) == json.dumps(GOLDEN[name]["statefulSet"]["spec"]["template"])


SPELLED_OUT: Json = {
    "replicas": 1,
    "suspend": False,
    "embedding": {"dimension": 64, "metric": "cosine", "visualWeight": "0.70", "textWeight": "0.3"},
    "sampling": {
        "alpha": "1.0",
        "beta": "0.40",
        "uniformShare": "0",
        "ageMode": "Rising",
        "ageHalfLifeSeconds": 86_400,
        "weights": {"confidence": "0.4", "reward": "0.40", "age": "0.2"},
        "priorityFloor": "0.010",
    },
    "index": {"storage": "auto", "recallShare": "0.010"},
    "podTemplate": {"metadata": {"labels": {}, "annotations": {}}, "spec": {"tolerations": [], "nodeSelector": {}}},
    "auth": {},
}
NOT_THE_PODS_BUSINESS: Json = {
    "rebuild": {"schedule": "0 3 * * *", "deltaRows": 5, "resources": {"limits": {"cpu": "1"}}, "keepGenerations": 9},
    "persistence": {"whenDeleted": "Delete", "autoGrowth": {"maximum": "50Gi"}},
    "monitoring": {"podMonitor": True, "labels": {"team": "vision"}},
    "networkPolicy": {"enabled": True, "from": [{"podSelector": {}}]},
    "disruptionBudget": "Block",
    "suspend": True,
    "replicas": 0,
    "index": {"recallFloor": "0.5"},
}


def test_a_default_that_is_spelled_out_changes_nothing() -> None:
    """Nor does another way to write the same number."""
    assert _template(BASE | SPELLED_OUT) == _template(BASE)


@pytest.mark.parametrize("field", NOT_THE_PODS_BUSINESS)
def test_a_field_that_pods_need_not_know_restarts_none(field: str) -> None:
    """The operator, the Jobs or the API server act on it."""
    assert _template({**BASE, field: NOT_THE_PODS_BUSINESS[field]}) == _template(BASE)


@pytest.mark.parametrize(
    "fields",
    [
        {"capacity": 7},
        {"capacityBytes": "8Gi"},
        {"embedding": {"dimension": 64, "visualWeight": "0.5", "textWeight": "0.5"}},
        {"sampling": {"beta": "0.5"}},
        {"sampling": {"rateLimit": {"minSize": 10}}},
        {"index": {"storage": "fp16"}},
        {"gpu": {}},
        {"gpu": {"fallback": "Forbidden"}},
        {"resources": {"requests": {"cpu": 1}}},
        {"auth": {"secretName": "shared"}},
        {"podTemplate": {"metadata": {"labels": {"team": "vision"}}}},
        {"podTemplate": {"spec": {"priorityClassName": "high"}}},
    ],
)
def test_a_field_that_pods_need_reaches_them(fields: Json) -> None:
    """A change of it makes another template, which is what restarts them."""
    assert _template({**BASE, **fields}) != _template(BASE)


def test_the_overlay_cannot_take_the_operators_labels() -> None:
    """Selectors go on to match, whatever a spec of an older CRD says."""
    given = {"labels": {"team": "vision"}, "annotations": {"example.com/scrape": "yes"}}
    metadata = _template({**BASE, "podTemplate": {"metadata": given}})["metadata"]
    assert metadata["annotations"] == given["annotations"]
    assert metadata["labels"] == {"team": "vision", **_template(BASE)["metadata"]["labels"]}


def test_placement_is_handed_on_and_the_toleration_of_gpus_is_added() -> None:
    """As it was written; the rest of the pod is the operator's."""
    placement = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "team", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "registry"}],
    }
    pod = _template({**BASE, "gpu": {}, "podTemplate": {"spec": placement}})["spec"]
    reserved = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert pod["tolerations"] == [reserved, *placement["tolerations"]]
    assert {name: pod[name] for name in placement if name != "tolerations"} == {
        name: value for name, value in placement.items() if name != "tolerations"
    }
    assert pod["securityContext"] == _template(BASE)["spec"]["securityContext"]
