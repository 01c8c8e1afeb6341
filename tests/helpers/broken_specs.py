"""Specs that break a rule: fields to put into a spec with ``embedding.dimension`` 64, and words of the refusal.

The API server refuses the first group by its schema, in its own words; the second by rules that the operator applies,
too, in the same words.
"""

from __future__ import annotations

from typing import Any

Broken = tuple[str, dict[str, Any], str, str]
"""What is wrong; the fields; the path that the refusal names; a part of its sentence."""

_NORMAL = {"dimension": 64}

OUT_OF_BOUNDS: list[Broken] = [
    ("capacity -1", {"capacity": -1}, "spec.capacity", "greater than or equal to 1"),
    ("capacity as text", {"capacity": "many"}, "spec.capacity", "must be of type integer"),
    ("no bytes at all", {"capacityBytes": "0"}, "spec.capacityBytes", "should match"),
    ("unknown store", {"persistence": {"backend": "postgres"}}, "spec.persistence.backend", "lmdb"),
    ("unknown FAISS backend", {"index": {"faissBackend": "tpu"}}, "spec.index.faissBackend", "gpu"),
    ("dimension 0", {"embedding": {"dimension": 0}}, "dimension", "greater than or equal to 1"),
    ("no dimension", {"embedding": {}}, "spec.embedding.dimension", "Required value"),
    ("a float", {"sampling": {"beta": 0.4}}, "spec.sampling.beta", "must be of type string"),
    ("a share of one", {"sampling": {"uniformShare": "1"}}, "spec.sampling.uniformShare", "should match"),
    ("floor 0", {"sampling": {"priorityFloor": "0.0"}}, "spec.sampling.priorityFloor", "should match"),
    ("age mode in lower case", {"sampling": {"ageMode": "rising"}}, "spec.sampling.ageMode", "Rising"),
    ("four fields of cron", {"rebuild": {"schedule": "0 3 * *"}}, "spec.rebuild.schedule", "should match"),
    ("growth without end", {"persistence": {"autoGrowth": {}}}, "autoGrowth.maximum", "Required value"),
    ("no such slice", {"gpu": {"migProfile": "big"}}, "spec.gpu.migProfile", "should match"),
    ("unknown fallback", {"gpu": {"fallback": "Maybe"}}, "spec.gpu.fallback", "Forbidden"),
    ("unknown budget", {"disruptionBudget": "Always"}, "spec.disruptionBudget", "Block"),
]
AGAINST_A_RULE: list[Broken] = [
    ("two replicas", {"replicas": 2}, "spec.replicas", "one writer"),
    ("hardly a byte", {"capacityBytes": "4k"}, "capacityBytes", "at least 1Mi"),
    ("rebuild too seldom", {"rebuild": {"everyOperations": 40_000}}, "rebuild.everyOperations", "at most half"),
    ("gpu backend without a GPU", {"index": {"faissBackend": "gpu"}}, "spec.gpu", "is given no GPU"),
    ("gpu build without a GPU", {"rebuild": {"device": "gpu"}}, "rebuild.device", "names the kind of GPU"),
    (
        "cpu backend without fallback",
        {"gpu": {"fallback": "Forbidden"}, "index": {"faissBackend": "cpu"}},
        "gpu.fallback",
        "allow the fallback",
    ),
    (
        "slice and resource",
        {"gpu": {"migProfile": "1g.10gb", "resourceName": "amd.com/gpu"}},
        "gpu.migProfile",
        "remove one of them",
    ),
    ("two slices", {"gpu": {"migProfile": "1g.10gb", "count": 2}}, "gpu.count", "a larger profile"),
    ("modalities", {"embedding": {**_NORMAL, "visualWeight": "0.5"}}, "embedding.visualWeight", "add up to 1"),
    ("weights", {"sampling": {"weights": {"age": "0.3"}}}, "sampling.weights", "add up to 1"),
    (
        "ratio without buffer",
        {"sampling": {"rateLimit": {"samplesPerInsert": "4"}}},
        "sampling.rateLimit.errorBuffer",
        "set both or neither",
    ),
    (
        "buffer of nothing",
        {"sampling": {"rateLimit": {"samplesPerInsert": "4", "errorBuffer": "2"}}},
        "sampling.rateLimit.errorBuffer",
        "would use all of it up",
    ),
    (
        "limit without ratio",
        {"sampling": {"rateLimit": {"limitInserts": True}}},
        "sampling.rateLimit.limitInserts",
        "nothing to fall behind",
    ),
    (
        "more than there is room for",
        {"capacity": 10, "sampling": {"rateLimit": {"minSize": 11}}},
        "sampling.rateLimit.minSize",
        "never be enough",
    ),
    (
        "growth below the size",
        {"persistence": {"size": "2Gi", "autoGrowth": {"maximum": "1Gi"}}},
        "persistence.autoGrowth.maximum",
        "raise the maximum",
    ),
    (
        "a label of the operator",
        {"podTemplate": {"metadata": {"labels": {"app.kubernetes.io/component": "x"}}}},
        "podTemplate.metadata.labels",
        "a prefix of your own",
    ),
    (
        "an annotation of the operator",
        {"podTemplate": {"metadata": {"annotations": {"pixelis.dev/pointer-revision": "9"}}}},
        "podTemplate.metadata.annotations",
        "a prefix of your own",
    ),
    ("a peer of nothing", {"networkPolicy": {"from": [{}]}}, "networkPolicy.from", "selects nothing"),
]
