"""The table of the document says of every field of the spec whether a change of it restarts the pod; it is right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from buffer_operator.builders.statefulset import stateful_set
from buffer_operator.kube.kinds import Json
from buffer_operator.observing.observed import Buffer
from buffer_operator.planning.restarts import RestartReason
from buffer_operator.resource.spec import Spec, parse_spec

DOCUMENT = (Path(__file__).parents[3] / "docs" / "operator.md").read_text()
BASE: Json = {"embedding": {"dimension": 64}, "gpu": {}, "sampling": {"rateLimit": {}}}
CHANGED: Json = {
    "embedding.dimension": 65,
    "embedding.metric": "euclidean",
    "embedding.visualWeight": {"visualWeight": "0.6", "textWeight": "0.4"},
    "embedding.textWeight": {"visualWeight": "0.8", "textWeight": "0.2"},
    "replicas": 0,
    "suspend": True,
    "image": "experience-buffer:2",
    "capacity": 7,
    "capacityBytes": "8Gi",
    "sampling.alpha": "0.5",
    "sampling.beta": "0.5",
    "sampling.uniformShare": "0.1",
    "sampling.ageMode": "Fresh",
    "sampling.ageHalfLifeSeconds": 60,
    "sampling.weights.confidence": {"confidence": "0.5", "reward": "0.3", "age": "0.2"},
    "sampling.weights.reward": {"confidence": "0.3", "reward": "0.5", "age": "0.2"},
    "sampling.weights.age": {"confidence": "0.4", "reward": "0.3", "age": "0.3"},
    "sampling.priorityFloor": "0.02",
    "sampling.rateLimit.minSize": 5,
    "sampling.rateLimit.samplesPerInsert": {"samplesPerInsert": "4", "errorBuffer": "100"},
    "sampling.rateLimit.errorBuffer": {"samplesPerInsert": "4", "errorBuffer": "200"},
    "sampling.rateLimit.limitInserts": {"samplesPerInsert": "4", "errorBuffer": "200", "limitInserts": True},
    "index.type": "flat",
    "index.storage": "fp16",
    "index.faissBackend": "gpu",
    "index.probes": 5,
    "index.recallFloor": "0.9",
    "index.recallShare": "0.5",
    "index.deltaRowsMax": 60_000,
    "rebuild.everyOperations": 5,
    "rebuild.minIntervalSeconds": 5,
    "rebuild.keepGenerations": 5,
    "rebuild.deadlineSeconds": 50,
    "rebuild.deltaRows": 50,
    "rebuild.tombstoneShare": "0.5",
    "rebuild.recallBelow": "0.5",
    "rebuild.schedule": "30 3 * * *",
    "rebuild.device": "gpu",
    "rebuild.resources.requests": {"cpu": "1"},
    "rebuild.resources.limits": {"cpu": "1"},
    "persistence.backend": "file",
    "persistence.size": "11Gi",
    "persistence.storageClassName": "fast",
    "persistence.whenDeleted": "Delete",
    "persistence.autoGrowth.maximum": {"maximum": "20Gi"},
    "persistence.autoGrowth.threshold": {"maximum": "20Gi", "threshold": "0.5"},
    "persistence.autoGrowth.step": {"maximum": "20Gi", "step": "1Gi"},
    "persistence.autoGrowth.coolDownSeconds": {"maximum": "20Gi", "coolDownSeconds": 1},
    "gpu.count": 2,
    "gpu.resourceName": "amd.com/gpu",
    "gpu.runtimeClassName": "nvidia",
    "gpu.migProfile": "1g.10gb",
    "gpu.fallback": "Forbidden",
    "resources.requests": {"cpu": "1"},
    "resources.limits": {"cpu": "1"},
    "podTemplate.metadata.labels": {"team": "vision"},
    "podTemplate.metadata.annotations": {"team": "vision"},
    "podTemplate.spec.nodeSelector": {"disk": "fast"},
    "podTemplate.spec.tolerations": [{"key": "gpu", "operator": "Exists"}],
    "podTemplate.spec.affinity": {"nodeAffinity": {}},
    "podTemplate.spec.topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "podTemplate.spec.priorityClassName": "high",
    "podTemplate.spec.imagePullSecrets": [{"name": "registry"}],
    "auth.secretName": "tokens",
    "monitoring.podMonitor": True,
    "monitoring.labels": {"team": "vision"},
    "networkPolicy.enabled": True,
    "networkPolicy.from": [{"podSelector": {}}],
    "disruptionBudget": "Block",
}
"""Another value for each field; an object stands for the object around it, where fields belong together."""


def leaves(part: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """Return the path of every field."""
    for field in msgspec.structs.fields(part):
        types = (field.type, *getattr(field.type, "__args__", ()))
        inner = next((one for one in types if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)
        path = f"{prefix}{field.encode_name}"
        yield from leaves(inner, f"{path}.") if inner else [path]


def with_change(path: str = "") -> Json:
    """Return the spec with another value for a field."""
    raw: Json = msgspec.json.decode(msgspec.json.encode(BASE))
    *parents, name = path.split(".")
    place = raw
    for parent in parents:
        place = place.setdefault(parent, {})
    value = CHANGED.get(path)
    if isinstance(value, dict) and name in value:
        place |= value
    elif path:
        place[name] = value
    return raw


def template_of(spec: Spec) -> Json:
    """Return the pod template that is made of a spec."""
    buffer = Buffer(
        namespace="ns",
        name="demo",
        uid="u",
        generation=1,
        deleting=False,
        spec=spec,
        invalid="",
        status={},
        resource={},
    )
    template: Json = stateful_set(buffer, spec, spec.image or "experience-buffer:1", "10Gi")["spec"]["template"]
    return template


def _rows() -> dict[str, str]:
    """Return what the document says by field or by the beginning of fields."""
    section = DOCUMENT.split("## What restarts a pod")[1].split("\n## ")[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 2 and "`" in cells[0]:
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells[1])
    return found


def _documented(path: str) -> str:
    rows = _rows()
    fitting = [prefix for prefix in rows if path == prefix or path.startswith(f"{prefix}.")]
    assert fitting, f"the table says nothing about {path}"
    return rows[max(fitting, key=len)]


@pytest.mark.parametrize("path", list(leaves(Spec)))
def test_the_document_says_of_every_field_what_a_change_of_it_does(path: str) -> None:
    """Asserted against the pod template: a field that is new has to be added to the table."""
    says = _documented(path)
    if says.startswith("fixed"):
        return
    restarts = template_of(parse_spec(with_change(path))) != template_of(parse_spec(BASE))
    assert says.startswith("restart" if restarts else "no restart"), f"{path}: {says}"


@pytest.mark.parametrize("reason", list(RestartReason))
def test_the_document_explains_every_reason(reason: RestartReason) -> None:
    """Whoever sees one in a status finds it there."""
    assert f"`{reason}`" in DOCUMENT
