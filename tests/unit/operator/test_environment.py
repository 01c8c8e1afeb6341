"""Settings that pods and Jobs get from a spec: the service reads every one of them, and means the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from buffer_operator.builders.environment import environment
from buffer_operator.builders.job import Cause, rebuild_job
from buffer_operator.kube.kinds import Json
from buffer_operator.resource.spec import Spec, parse_spec

from buffer_service.settings import Settings, known_settings
from tests.unit.operator.manifests import a_buffer

BASE: Json = {"embedding": {"dimension": 64}}
FULL: Json = {
    "capacityBytes": "1.5Gi",
    "embedding": {"dimension": 64, "visualWeight": "0.6", "textWeight": "0.4"},
    "sampling": {
        "alpha": "0.6",
        "beta": "0.5",
        "uniformShare": "0.1",
        "ageMode": "Fresh",
        "ageHalfLifeSeconds": 3600,
        "weights": {"confidence": "0.5", "reward": "0.5", "age": "0"},
        "priorityFloor": "0.05",
        "rateLimit": {"minSize": 100, "samplesPerInsert": "4.5", "errorBuffer": "200", "limitInserts": True},
    },
    "index": {"type": "ivf", "storage": "fp16", "faissBackend": "gpu", "recallShare": "0.5"},
    "gpu": {"fallback": "Forbidden"},
}


def _job_environment(spec: Spec) -> list[dict[str, str]]:
    job = rebuild_job(a_buffer(), spec, "image:1", 7, Cause("operations", "500 operations wait"), 4)
    entries: list[dict[str, str]] = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return entries


def _values(entries: list[dict[str, str]]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in entries}


def _in_force(monkeypatch: pytest.MonkeyPatch, entries: list[dict[str, str]]) -> Settings:
    for name, value in _values(entries).items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize("fields", [BASE, FULL], ids=["minimal", "full"])
@pytest.mark.parametrize("build", [environment, _job_environment])
def test_the_service_knows_every_setting_it_is_given(
    build: Callable[[Spec], list[dict[str, str]]], fields: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and values are read by the service's own settings."""
    known = {f"XBUF_{group}__{field}".upper() for group, fields in known_settings().items() for field in fields}
    entries = build(parse_spec(fields))
    assert set(_values(entries)) - {"NVIDIA_VISIBLE_DEVICES"} <= known
    _in_force(monkeypatch, entries)


def test_a_full_spec_means_the_same_to_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units, case and names differ between the two; what is meant does not."""
    settings = _in_force(monkeypatch, environment(parse_spec(FULL)))
    assert settings.buffer.capacity_bytes == 3 * 2**29
    assert (settings.embedding.visual_weight, settings.embedding.text_weight) == (0.6, 0.4)
    sampling = settings.sampling
    assert (sampling.alpha, sampling.beta, sampling.uniform_share) == (0.6, 0.5, 0.1)
    assert (sampling.age_mode, sampling.age_half_life_s, sampling.priority_floor) == ("fresh", 3600, 0.05)
    assert (sampling.confidence_weight, sampling.reward_weight, sampling.age_weight) == (0.5, 0.5, 0)
    assert (sampling.min_size, sampling.samples_per_insert, sampling.error_buffer) == (100, 4.5, 200)
    assert sampling.limit_inserts is True
    index = settings.index
    assert (index.type, index.storage, index.faiss_backend, index.recall_share) == ("ivf", "fp16", "gpu", 0.5)
    assert index.gpu_required is True


def test_what_is_left_at_its_default_is_not_handed_on() -> None:
    """So that a newer operator adds nothing to the pods of a spec that it has always had."""
    given = _values(environment(parse_spec({**BASE, "sampling": {"rateLimit": {"minSize": 5}}})))
    assert given["XBUF_SAMPLING__MIN_SIZE"] == "5"
    assert "XBUF_SAMPLING__SAMPLES_PER_INSERT" not in given
    assert "XBUF_SAMPLING__BETA" not in given


def test_a_job_codes_rows_as_the_spec_says() -> None:
    """The index is coded when it is built; the pods only read it."""
    assert _values(_job_environment(parse_spec(FULL)))["XBUF_INDEX__STORAGE"] == "fp16"
