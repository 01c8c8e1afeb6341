"""The settings of the service as environment variables, from the spec.

The first ones are always given. The rest only where the spec differs from its own default, which is the service's: so a
field that is new in the operator changes no pod template, and restarts no pod, before somebody sets it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from buffer_operator.kube.drift import quantity
from buffer_operator.resource.spec import Index, RateLimit, Sampling, Spec
from buffer_service.contract import names

NO_GPU: Final = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
"""Without it a container that asked for no GPU can see all of its node's."""


def environment(spec: Spec) -> list[dict[str, str]]:
    """Return the variables of the data pods' container; their order is part of the pod template."""
    entries = as_entries({**_always(spec), **_where_set(spec)})
    return entries if spec.gpu else [*entries, NO_GPU]


def index_storage(spec: Spec) -> dict[str, str]:
    """Return the variable that says how rows are coded, which whoever builds an index needs too; empty by default."""
    return _changed({"XBUF_INDEX__STORAGE": (spec.index.storage, Index().storage)})


def as_entries(values: dict[str, str]) -> list[dict[str, str]]:
    """Return variables as a container lists them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def _always(spec: Spec) -> dict[str, str]:
    return {
        "XBUF_SERVER__OPERATIONS_PORT": str(names.OPERATIONS_PORT),
        "XBUF_AUTH__TOKENS_DIR": names.TOKENS_PATH,
        "XBUF_PERSISTENCE__BACKEND": spec.persistence.backend,
        "XBUF_BUFFER__CAPACITY": str(spec.capacity),
        "XBUF_EMBEDDING__DIMENSION": str(spec.embedding.dimension),
        "XBUF_EMBEDDING__METRIC": spec.embedding.metric,
        "XBUF_SAMPLING__ALPHA": spec.sampling.alpha,
        "XBUF_INDEX__TYPE": spec.index.type,
        "XBUF_INDEX__FAISS_BACKEND": spec.index.faiss_backend,
        "XBUF_INDEX__FAISS_N_PROBES": str(spec.index.probes),
        "XBUF_INDEX__DELTA_ROWS_MAX": str(spec.index.delta_rows_max),
        "XBUF_INDEX__POINTER_DIR": names.POINTER_PATH,
        "XBUF_REBUILD__MODE": "external",
    }


def _where_set(spec: Spec) -> dict[str, str]:
    values = _capacity_bytes(spec) | _modalities(spec) | _sampling(spec.sampling) | index_storage(spec)
    values |= _changed({"XBUF_INDEX__RECALL_SHARE": (spec.index.recall_share, Index().recall_share)})
    if spec.gpu and spec.gpu.fallback == "Forbidden":
        values["XBUF_INDEX__GPU_REQUIRED"] = "true"
    return values


def _capacity_bytes(spec: Spec) -> dict[str, str]:
    size = quantity(spec.capacity_bytes) if spec.capacity_bytes else None
    return {} if size is None else {"XBUF_BUFFER__CAPACITY_BYTES": str(int(size))}


def _modalities(spec: Spec) -> dict[str, str]:
    fields = type(spec.embedding)(dimension=1)
    return _changed(
        {
            "XBUF_EMBEDDING__VISUAL_WEIGHT": (spec.embedding.visual_weight, fields.visual_weight),
            "XBUF_EMBEDDING__TEXT_WEIGHT": (spec.embedding.text_weight, fields.text_weight),
        }
    )


def _sampling(sampling: Sampling) -> dict[str, str]:
    usual = Sampling()
    changed = _changed(
        {
            "XBUF_SAMPLING__BETA": (sampling.beta, usual.beta),
            "XBUF_SAMPLING__UNIFORM_SHARE": (sampling.uniform_share, usual.uniform_share),
            "XBUF_SAMPLING__AGE_MODE": (sampling.age_mode.lower(), usual.age_mode.lower()),
            "XBUF_SAMPLING__AGE_HALF_LIFE_S": (sampling.age_half_life_seconds, usual.age_half_life_seconds),
            "XBUF_SAMPLING__CONFIDENCE_WEIGHT": (sampling.weights.confidence, usual.weights.confidence),
            "XBUF_SAMPLING__REWARD_WEIGHT": (sampling.weights.reward, usual.weights.reward),
            "XBUF_SAMPLING__AGE_WEIGHT": (sampling.weights.age, usual.weights.age),
            "XBUF_SAMPLING__PRIORITY_FLOOR": (sampling.priority_floor, usual.priority_floor),
        }
    )
    return changed | (_rate_limit(sampling.rate_limit) if sampling.rate_limit else {})


def _rate_limit(limit: RateLimit) -> dict[str, str]:
    given = {
        "XBUF_SAMPLING__MIN_SIZE": str(limit.min_size) if limit.min_size else None,
        "XBUF_SAMPLING__SAMPLES_PER_INSERT": limit.samples_per_insert,
        "XBUF_SAMPLING__ERROR_BUFFER": limit.error_buffer,
        "XBUF_SAMPLING__LIMIT_INSERTS": "true" if limit.limit_inserts else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _changed(values: dict[str, tuple[str | int, str | int]]) -> dict[str, str]:
    """Return the variables whose first value is not their second; ``0.40`` is no change of ``0.4``."""
    return {name: str(value) for name, (value, usual) in values.items() if not _same(value, usual)}


def _same(value: str | int, usual: str | int) -> bool:
    if isinstance(value, str) and value[:1].isdigit() and isinstance(usual, str):
        return Decimal(value) == Decimal(usual)
    return value == usual
