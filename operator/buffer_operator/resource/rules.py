"""Rules across fields of a spec, the same as the CRD's in CEL: for a spec that was stored under an older CRD.

Rules about a change from one spec to the next are the API server's alone: here there is only the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from buffer_operator.kube.drift import quantity
from buffer_service.contract import names

if TYPE_CHECKING:
    from buffer_operator.resource.spec import Spec

_OPERATORS_LABELS: Final = (f"{names.API_GROUP}/", "app.kubernetes.io/")
_CAPACITY_BYTES_MIN: Final = 2**20
_OPERATORS_ANNOTATIONS: Final = (f"{names.API_GROUP}/",)

_Rule = Callable[["Spec"], bool]
_RULES: Final[list[tuple[_Rule, str]]] = []


def broken_rule(spec: Spec) -> str | None:
    """Return the sentence of the first rule that the spec breaks, in the CRD's words; None for a good one."""
    return next((sentence for holds, sentence in _RULES if not holds(spec)), None)


def _rule(sentence: str) -> Callable[[_Rule], _Rule]:
    def kept(holds: _Rule) -> _Rule:
        _RULES.append((holds, sentence))
        return holds

    return kept


def _adds_up(parts: Iterable[str]) -> bool:
    return sum(map(Decimal, parts)) == 1


@_rule(
    "rebuild.everyOperations must be at most half of index.deltaRowsMax: "
    "otherwise writes are refused before a rebuild has finished"
)
def _rebuilds_before_writes_stop(spec: Spec) -> bool:
    return 2 * spec.rebuild.every_operations <= spec.index.delta_rows_max


@_rule(
    "index.faissBackend gpu needs spec.gpu: without it the pod is given no GPU; use auto or cpu, or add gpu: {count: 1}"
)
def _index_gpu_is_given(spec: Spec) -> bool:
    return spec.index.faiss_backend != "gpu" or spec.gpu is not None


@_rule("rebuild.device gpu needs spec.gpu, which names the kind of GPU: use cpu, or add gpu: {count: 1}")
def _rebuild_gpu_is_given(spec: Spec) -> bool:
    return spec.rebuild.device != "gpu" or spec.gpu is not None


@_rule("gpu.fallback Forbidden contradicts index.faissBackend cpu: use auto or gpu there, or allow the fallback")
def _no_fallback_means_gpu(spec: Spec) -> bool:
    return spec.gpu is None or spec.gpu.fallback != "Forbidden" or spec.index.faiss_backend != "cpu"


@_rule("gpu.migProfile and gpu.resourceName exclude each other: the profile names the resource; remove one of them")
def _slice_or_resource(spec: Spec) -> bool:
    return spec.gpu is None or spec.gpu.mig_profile is None or spec.gpu.resource_name == "nvidia.com/gpu"


@_rule("gpu.count must be 1 with gpu.migProfile: a process sees only one slice; choose a larger profile instead")
def _one_slice(spec: Spec) -> bool:
    return spec.gpu is None or spec.gpu.mig_profile is None or spec.gpu.count == 1


@_rule("embedding.visualWeight and embedding.textWeight must add up to 1: set both")
def _modalities_add_up(spec: Spec) -> bool:
    return _adds_up((spec.embedding.visual_weight, spec.embedding.text_weight))


@_rule("sampling.weights must add up to 1: set confidence, reward and age together")
def _weights_add_up(spec: Spec) -> bool:
    weights = spec.sampling.weights
    return _adds_up((weights.confidence, weights.reward, weights.age))


@_rule("sampling.rateLimit.samplesPerInsert and sampling.rateLimit.errorBuffer belong together: set both or neither")
def _ratio_has_buffer(spec: Spec) -> bool:
    limit = spec.sampling.rate_limit
    return limit is None or (limit.samples_per_insert is None) == (limit.error_buffer is None)


@_rule(
    "sampling.rateLimit.errorBuffer must be at least 1 and at least samplesPerInsert: "
    "a single draw or append would use all of it up"
)
def _error_buffer_is_of_use(spec: Spec) -> bool:
    limit = spec.sampling.rate_limit
    if limit is None or limit.samples_per_insert is None or limit.error_buffer is None:
        return True
    return Decimal(limit.error_buffer) >= max(Decimal(1), Decimal(limit.samples_per_insert))


@_rule(
    "sampling.rateLimit.limitInserts needs samplesPerInsert: there is nothing to fall behind; set it, or do not limit"
)
def _something_to_fall_behind(spec: Spec) -> bool:
    limit = spec.sampling.rate_limit
    return limit is None or not limit.limit_inserts or limit.samples_per_insert is not None


@_rule(
    "sampling.rateLimit.minSize must be at most capacity: "
    "there would never be enough to draw from; lower it or raise capacity"
)
def _can_reach_the_least_size(spec: Spec) -> bool:
    return spec.sampling.rate_limit is None or spec.sampling.rate_limit.min_size <= spec.capacity


@_rule("capacityBytes must be at least 1Mi: less holds too little to draw from; raise it or leave it out")
def _holds_something(spec: Spec) -> bool:
    return spec.capacity_bytes is None or (quantity(spec.capacity_bytes) or 0) >= _CAPACITY_BYTES_MIN


@_rule("persistence.autoGrowth.maximum must be at least persistence.size: raise the maximum")
def _growth_has_room(spec: Spec) -> bool:
    growth = spec.persistence.auto_growth
    return growth is None or (quantity(growth.maximum) or 0) >= (quantity(spec.persistence.size) or 0)


@_rule(
    "podTemplate.metadata.labels must not begin with pixelis.dev/ or app.kubernetes.io/: "
    "the operator finds its pods by these; use a prefix of your own"
)
def _labels_are_free(spec: Spec) -> bool:
    return not any(key.startswith(_OPERATORS_LABELS) for key in spec.pod_template.metadata.labels)


@_rule(
    "podTemplate.metadata.annotations must not begin with pixelis.dev/: "
    "these are the operator's; use a prefix of your own"
)
def _annotations_are_free(spec: Spec) -> bool:
    return not any(key.startswith(_OPERATORS_ANNOTATIONS) for key in spec.pod_template.metadata.annotations)


@_rule("a peer in networkPolicy.from needs podSelector, namespaceSelector or ipBlock: an empty one selects nothing")
def _peers_select(spec: Spec) -> bool:
    return all({"podSelector", "namespaceSelector", "ipBlock"} & set(peer) for peer in spec.network_policy.peers)
