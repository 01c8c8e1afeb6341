"""The spec of an ExperienceBuffer, typed. Defaults and bounds are those of the CRD; a test keeps the two equal.

Fields that are not known are ignored: a CRD that is newer than this operator must not stop it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from buffer_operator.kinds import Json


class InvalidSpecError(ValueError):
    """The spec cannot be followed; the message names the field."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object of the spec; names are in camelCase there."""


class Embedding(_Part, frozen=True):
    """The vector by which experiences are found."""

    dimension: Annotated[int, Meta(ge=1, le=65536)]
    metric: Literal["cosine", "euclidean"] = "cosine"


class Sampling(_Part, frozen=True):
    """Prioritised replay."""

    alpha: Annotated[str, Meta(pattern=r"^([0-3](\.[0-9]{1,6})?|4(\.0{1,6})?)$")] = "1.0"


class Index(_Part, frozen=True):
    """The index and where FAISS runs."""

    type: Literal["auto", "flat", "ivf", "hnsw"] = "auto"
    faiss_backend: Literal["auto", "gpu", "cpu"] = "auto"
    probes: Annotated[int, Meta(ge=1, le=65536)] = 16
    recall_floor: Annotated[str, Meta(pattern=r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$")] = "0.95"
    delta_rows_max: Annotated[int, Meta(ge=1)] = 50_000


class Rebuild(_Part, frozen=True):
    """When the index is built anew."""

    every_operations: Annotated[int, Meta(ge=1)] = 1000
    min_interval_seconds: Annotated[int, Meta(ge=0)] = 10
    keep_generations: Annotated[int, Meta(ge=2, le=100)] = 3
    deadline_seconds: Annotated[int, Meta(ge=10)] = 3600


class Persistence(_Part, frozen=True):
    """The durable store and its volume."""

    backend: Literal["lmdb", "file"] = "lmdb"
    size: str = "10Gi"
    storage_class_name: str | None = None
    when_deleted: Literal["Retain", "Delete"] = "Retain"


class Gpu(_Part, frozen=True):
    """GPUs of each pod."""

    count: Annotated[int, Meta(ge=1)] = 1
    resource_name: str = "nvidia.com/gpu"
    runtime_class_name: str | None = None


class Resources(_Part, frozen=True):
    """Requests and limits of the buffer's container, without GPUs."""

    requests: dict[str, int | str] = {}
    limits: dict[str, int | str] = {}


class Spec(_Part, frozen=True):
    """What the user wants of one buffer."""

    embedding: Embedding
    replicas: Literal[1] = 1
    image: str | None = None
    capacity: Annotated[int, Meta(ge=1)] = 100_000
    sampling: Sampling = Sampling()
    index: Index = Index()
    rebuild: Rebuild = Rebuild()
    persistence: Persistence = Persistence()
    gpu: Gpu | None = None
    resources: Resources = Resources()


def parse_spec(raw: Json) -> Spec:
    """Return the typed spec; raises InvalidSpecError, also for what the CRD of this version would have refused."""
    try:
        spec = msgspec.convert(raw, Spec)
    except msgspec.ValidationError as error:
        raise InvalidSpecError(f"The spec is not valid: {error}.") from error
    if 2 * spec.rebuild.every_operations > spec.index.delta_rows_max:
        raise InvalidSpecError(
            "rebuild.everyOperations must be at most half of index.deltaRowsMax: "
            "otherwise writes are refused before a rebuild has finished."
        )
    return spec
