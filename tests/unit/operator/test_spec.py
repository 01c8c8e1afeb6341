"""The typed spec: what it refuses, what it ignores, and that its defaults are the service's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from buffer_operator.kube.kinds import Json
from buffer_operator.resource.spec import InvalidSpecError, RateLimit, Spec, parse_spec

from buffer_service.settings import Settings
from tests.helpers.broken_specs import AGAINST_A_RULE, OUT_OF_BOUNDS

CRD_TEXT = (Path(__file__).parents[3] / "crds" / "experiencebuffers.yaml").read_text()
BASE: Json = {"embedding": {"dimension": 64}}


def _messages(part: Any) -> set[str]:  # noqa: ANN401 - whatever JSON can hold
    if isinstance(part, list):
        return set().union(*map(_messages, part))
    if not isinstance(part, dict):
        return set()
    own = {rule["message"] for rule in part.get("x-kubernetes-validations", [])}
    return own.union(*map(_messages, part.values()))


SENTENCES = _messages(yaml.safe_load(CRD_TEXT))


@pytest.mark.parametrize("broken", OUT_OF_BOUNDS, ids=lambda broken: str(broken[0]))
def test_what_is_out_of_bounds_is_refused_here_too(broken: tuple[str, Json, str, str]) -> None:
    """A spec that an older CRD let through is not followed."""
    with pytest.raises(InvalidSpecError):
        parse_spec({**BASE, **broken[1]})


@pytest.mark.parametrize(
    "broken", [one for one in AGAINST_A_RULE if one[0] != "two replicas"], ids=lambda broken: str(broken[0])
)
def test_a_broken_rule_is_told_in_the_words_of_the_crd(broken: tuple[str, Json, str, str]) -> None:
    """One sentence for one rule, whoever notices."""
    with pytest.raises(InvalidSpecError) as refused:
        parse_spec({**BASE, **broken[1]})
    assert str(refused.value).rstrip(".") in SENTENCES
    assert broken[3] in str(refused.value)


def test_every_rule_about_one_spec_is_broken_by_some_example() -> None:
    """No rule of the CRD goes untried; rules about changes and names have tests of their own."""
    tried = set()
    for _, fields, _, words in AGAINST_A_RULE:
        tried |= {sentence for sentence in SENTENCES if words in sentence}
        assert fields
    others = {sentence for sentence in SENTENCES if "cannot be" in sentence or sentence.startswith("metadata.name")}
    assert tried | others == SENTENCES


def test_fields_of_a_newer_crd_are_ignored() -> None:
    """An operator that is older than the CRD goes on with what it knows."""
    newer = {**BASE, "compression": {"level": 9}, "index": {"type": "flat", "quantizer": "pq"}}
    assert parse_spec(newer) == parse_spec({**BASE, "index": {"type": "flat"}})


def test_defaults_are_those_of_the_service() -> None:
    """Whatever is left at its default is not handed to the pod, which then takes its own."""
    spec, service = parse_spec(BASE), Settings()
    sampling, weights = spec.sampling, spec.sampling.weights
    assert (float(sampling.beta), float(sampling.uniform_share), float(sampling.priority_floor)) == (
        service.sampling.beta,
        service.sampling.uniform_share,
        service.sampling.priority_floor,
    )
    assert (sampling.age_mode.lower(), sampling.age_half_life_seconds) == (
        service.sampling.age_mode,
        service.sampling.age_half_life_s,
    )
    assert (float(weights.confidence), float(weights.reward), float(weights.age)) == (
        service.sampling.confidence_weight,
        service.sampling.reward_weight,
        service.sampling.age_weight,
    )
    assert (float(spec.embedding.visual_weight), float(spec.embedding.text_weight)) == (
        service.embedding.visual_weight,
        service.embedding.text_weight,
    )
    assert (spec.index.storage, float(spec.index.recall_share)) == (service.index.storage, service.index.recall_share)
    assert service.index.gpu_required is False
    limit = RateLimit()
    assert (limit.min_size, limit.limit_inserts) == (service.sampling.min_size, service.sampling.limit_inserts)


@pytest.mark.parametrize(
    ("fields", "pods"), [({}, 1), ({"replicas": 0}, 0), ({"suspend": True}, 0), ({"suspend": False, "replicas": 1}, 1)]
)
def test_a_buffer_is_suspended_by_either_field(fields: Json, pods: int) -> None:
    """What ``kubectl scale`` writes has the effect of ``suspend``."""
    spec: Spec = parse_spec({**BASE, **fields})
    assert (spec.pods_wanted, spec.suspended) == (pods, pods == 0)
