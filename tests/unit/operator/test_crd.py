"""The CRD, the typed spec and the samples say the same."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from buffer_operator.kube.kinds import Json
from buffer_operator.resource.conditions import ConditionType
from buffer_operator.resource.spec import Spec, parse_spec

from buffer_service.contract import names
from buffer_service.settings import Settings
from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster

REPOSITORY = Path(__file__).parents[3]
CRD: Json = yaml.safe_load((REPOSITORY / "crds" / "experiencebuffers.yaml").read_text())
(VERSION,) = CRD["spec"]["versions"]
SCHEMA: Json = VERSION["schema"]["openAPIV3Schema"]


def _defaults(schema: Json) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Return what the API server fills in: as it does, nested defaults only where the parent has one."""
    if schema.get("type") != "object":
        return schema.get("default")
    filled = {name: _defaults(part) for name, part in schema.get("properties", {}).items() if "default" in part}
    return {**schema.get("default", {}), **filled}


def _fields(schema: Json, path: str = "") -> dict[str, Json]:
    found = {path: schema} if path else {}
    for name, part in schema.get("properties", {}).items():
        found |= _fields(part, f"{path}.{name}".lstrip("."))
    items = schema.get("items")
    return found | (_fields(items, f"{path}[]") if items else {})


def test_defaults_of_the_crd_are_those_of_the_operator() -> None:
    """A spec that went through the API server means what it meant before."""
    given = {"embedding": {"dimension": 64}}
    schema = SCHEMA["properties"]["spec"]
    filled = _defaults(schema) | {"embedding": given["embedding"] | _defaults(schema["properties"]["embedding"])}
    assert parse_spec(filled) == parse_spec(given)
    gpu = _defaults(schema["properties"]["gpu"])
    assert parse_spec({**given, "gpu": gpu}) == parse_spec({**given, "gpu": {}})


def test_every_field_of_the_spec_is_in_the_crd_and_the_other_way_round() -> None:
    """None is ignored silently, none is unknown to the API server."""

    def walk(part: type[msgspec.Struct]) -> dict[str, Any]:
        found = {}
        for field in msgspec.structs.fields(part):
            inner = next((one for one in (field.type, *getattr(field.type, "__args__", ())) if _is_part(one)), None)
            found[field.encode_name] = walk(inner) if inner else None
        return found

    def walk_schema(schema: Json) -> dict[str, Any]:
        return {
            name: walk_schema(part) if part.get("properties") and name != "affinity" else None
            for name, part in schema["properties"].items()
        }

    assert walk(Spec) == walk_schema(SCHEMA["properties"]["spec"])


def _is_part(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, msgspec.Struct)


def test_bounds_of_the_service_are_those_of_the_crd() -> None:
    """What the API server lets through, the service can start with."""
    spec = parse_spec({"embedding": {"dimension": 65536}, "sampling": {"alpha": "4"}, "index": {"recallFloor": "1.0"}})
    groups: Json = {
        "embedding": {"dimension": spec.embedding.dimension},
        "sampling": {"alpha": float(spec.sampling.alpha)},
        "index": {"recall_floor": float(spec.index.recall_floor)},
    }
    assert Settings(**groups).sampling.alpha == 4.0


def test_every_field_is_explained() -> None:
    """``kubectl explain`` reads well: each field has a sentence."""
    fields = _fields({"properties": {name: SCHEMA["properties"][name] for name in ("spec", "status")}})
    missing = [path for path, part in fields.items() if not part.get("description", "").strip().endswith(".")]
    assert [path for path in missing if not path.endswith("[]")] == []


def test_the_reference_is_up_to_date() -> None:
    """docs/api.md is what scripts/document-api makes of the CRD."""
    page = (REPOSITORY / "docs" / "api.md").read_text()
    assert page == runpy.run_path(str(REPOSITORY / "scripts" / "document-api"))["document"]()


def test_the_crd_is_small_enough_for_every_way_to_apply_it() -> None:
    """``kubectl apply`` keeps a copy in an annotation, which holds 262,144 bytes at most."""
    assert len(msgspec.json.encode(CRD)) < 200_000


def test_no_field_of_the_spec_is_a_float() -> None:
    """Their text is not the same on every machine that reads and writes it."""
    fields = _fields(SCHEMA["properties"]["spec"])
    assert [path for path, part in fields.items() if part.get("type") == "number"] == []


def test_the_scale_subresource_leads_to_the_pods() -> None:
    """What ``kubectl scale`` and autoscalers read and write."""
    assert VERSION["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }


def test_names_are_those_of_the_contract() -> None:
    """Group, version, kind, plural and short name are spelled in one place; the CRD repeats them."""
    spec = CRD["spec"]
    assert (spec["group"], VERSION["name"]) == (names.API_GROUP, names.API_VERSION)
    assert (spec["names"]["kind"], spec["names"]["plural"]) == (names.KIND, names.PLURAL)
    assert spec["names"]["shortNames"] == [names.SHORT_NAME]
    assert [column["name"] for column in VERSION["additionalPrinterColumns"] if not column.get("priority")] == [
        "Phase",
        "Ready",
        "Records",
        "Generation",
        "Age",
    ]


def test_rules_have_sentences() -> None:
    """A rejection says what to do."""
    found = [rule for part in (SCHEMA, *_fields(SCHEMA).values()) for rule in part.get("x-kubernetes-validations", [])]
    assert len(found) >= 9
    assert all(len(rule["message"]) > 40 for rule in found)


async def test_the_schema_has_every_field_that_the_operator_writes(world: ModelCluster, operator: Driver) -> None:
    """The API server drops what the schema lacks, and then every visit would write again."""
    world.change_spec(gpu={})
    world.append(600)
    await operator.rounds(3)
    world.jobs_hold = True
    statuses = []
    for _ in range(12):
        await operator.rounds(1)
        statuses.append(world.buffer()["status"])
        world.jobs_hold = False
    known = _fields(SCHEMA["properties"]["status"])

    def check(value: object, path: str) -> None:
        assert not path or path in known, path
        if isinstance(value, dict):
            for name, part in value.items():
                check(part, f"{path}.{name}".lstrip("."))
        elif isinstance(value, list):
            for part in value:
                check(part, f"{path}[]")

    for status in statuses:
        check(status, "")
    assert any("job" in status["rebuild"] for status in statuses)
    assert {entry["type"] for entry in statuses[-1]["conditions"]} == set(ConditionType)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "configs" / "samples").glob("*.yaml")), ids=lambda path: path.name
)
def test_samples_are_what_they_say(path: Path) -> None:
    """Buffers have a valid spec of known fields only; Jobs run as nobody."""
    sample = yaml.safe_load(path.read_text())
    if sample["kind"] == names.KIND:
        assert sample["apiVersion"] == f"{names.API_GROUP}/{names.API_VERSION}"
        given = msgspec.to_builtins(parse_spec(sample["spec"]))
        for group, fields in sample["spec"].items():
            assert group in given
            assert not isinstance(fields, dict) or set(fields) <= set(given[group])
    else:
        assert sample["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
