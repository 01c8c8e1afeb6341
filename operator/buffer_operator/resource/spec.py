"""The spec of an ExperienceBuffer, typed. Defaults and bounds are those of the CRD; a test keeps the two equal.

Fields that are not known are ignored: a CRD that is newer than this operator must not stop it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from buffer_operator.kube.kinds import Json
from buffer_operator.resource.rules import broken_rule
from buffer_operator.resource.schedule import InvalidScheduleError, check_schedule

Fraction = Annotated[str, Meta(pattern=r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$")]
"""A decimal number from 0 to 1, as a string."""
Share = Annotated[str, Meta(pattern=r"^(0\.[0-9]{0,5}[1-9][0-9]{0,5}|1(\.0{1,6})?)$")]
"""A decimal number above 0, at most 1, as a string."""
Exponent = Annotated[str, Meta(pattern=r"^([0-3](\.[0-9]{1,6})?|4(\.0{1,6})?)$")]
"""A decimal number from 0 to 4, as a string."""
Positive = Annotated[str, Meta(pattern=r"^([1-9][0-9]{0,8}(\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9][0-9]{0,5})$")]
"""A decimal number above 0, as a string."""
Quantity = Annotated[str, Meta(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")]
"""A number of bytes as Kubernetes writes it, such as 10Gi."""


class InvalidSpecError(ValueError):
    """The spec cannot be followed; the message names the field."""


DEFAULT_GPU: Final = "nvidia.com/gpu"


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object of the spec; names are in camelCase there."""


class Embedding(_Part, frozen=True):
    """The vector by which experiences are found."""

    dimension: Annotated[int, Meta(ge=1, le=65536)]
    metric: Literal["cosine", "euclidean"] = "cosine"
    visual_weight: Fraction = "0.7"
    text_weight: Fraction = "0.3"


class PriorityWeights(_Part, frozen=True):
    """What makes up the priority of a new experience; the three add up to 1."""

    confidence: Fraction = "0.4"
    reward: Fraction = "0.4"
    age: Fraction = "0.2"


class RateLimit(_Part, frozen=True):
    """How far drawing and writing may drift apart."""

    min_size: Annotated[int, Meta(ge=0)] = 0
    samples_per_insert: Positive | None = None
    error_buffer: Positive | None = None
    limit_inserts: bool = False


class Sampling(_Part, frozen=True):
    """Prioritised replay."""

    alpha: Exponent = "1.0"
    beta: Exponent = "0.4"
    uniform_share: Annotated[str, Meta(pattern=r"^0(\.[0-9]{1,6})?$")] = "0.0"
    age_mode: Literal["Rising", "Fresh"] = "Rising"
    age_half_life_seconds: Annotated[int, Meta(ge=1)] = 86_400
    weights: PriorityWeights = PriorityWeights()
    priority_floor: Share = "0.01"
    rate_limit: RateLimit | None = None


class Index(_Part, frozen=True):
    """The index and where FAISS runs."""

    type: Literal["auto", "flat", "ivf", "hnsw"] = "auto"
    storage: Literal["auto", "fp32", "fp16", "sq8", "pq4"] = "auto"
    faiss_backend: Literal["auto", "gpu", "cpu"] = "auto"
    probes: Annotated[int, Meta(ge=1, le=65536)] = 16
    recall_floor: Fraction = "0.95"
    recall_share: Fraction = "0.01"
    delta_rows_max: Annotated[int, Meta(ge=1)] = 50_000


class Resources(_Part, frozen=True):
    """Requests and limits of a container, without GPUs."""

    requests: dict[str, int | str] = {}
    limits: dict[str, int | str] = {}


class Rebuild(_Part, frozen=True):
    """When the index is built anew."""

    every_operations: Annotated[int, Meta(ge=1)] = 1000
    min_interval_seconds: Annotated[int, Meta(ge=0)] = 10
    keep_generations: Annotated[int, Meta(ge=2, le=100)] = 3
    deadline_seconds: Annotated[int, Meta(ge=10)] = 3600
    delta_rows: Annotated[int, Meta(ge=1)] | None = None
    tombstone_share: Share | None = None
    recall_below: Share | None = None
    schedule: Annotated[str, Meta(pattern=r"^([0-9*,/-]+ +){4}[0-9*,/-]+$", max_length=100)] | None = None
    """Minute, hour, day of the month, month, day of the week as in cron, in UTC."""
    device: Literal["auto", "gpu", "cpu"] = "cpu"
    resources: Resources = Resources()


class AutoGrowth(_Part, frozen=True):
    """How the volume grows before it is full."""

    maximum: Quantity
    threshold: Share = "0.8"
    step: Annotated[str, Meta(pattern=r"^([1-9][0-9]{0,2}%|[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?)$")] = (
        "20%"
    )
    """A share of the size such as ``20%``, or a quantity."""
    cool_down_seconds: Annotated[int, Meta(ge=0)] = 3600


class Persistence(_Part, frozen=True):
    """The durable store and its volume."""

    backend: Literal["lmdb", "file"] = "lmdb"
    size: Quantity = "10Gi"
    storage_class_name: str | None = None
    when_deleted: Literal["Retain", "Delete"] = "Retain"
    auto_growth: AutoGrowth | None = None


class Gpu(_Part, frozen=True):
    """GPUs of each pod."""

    count: Annotated[int, Meta(ge=1)] = 1
    resource_name: str = DEFAULT_GPU
    runtime_class_name: str | None = None
    mig_profile: Annotated[str, Meta(pattern=r"^[1-7]g\.[1-9][0-9]{0,2}gb(\.me)?$")] | None = None
    fallback: Literal["Allowed", "Forbidden"] = "Allowed"

    @property
    def resource(self) -> str:
        """The name under which nodes offer what is asked for, a slice or a whole GPU."""
        return f"nvidia.com/mig-{self.mig_profile}" if self.mig_profile else self.resource_name


class PodMetadata(_Part, frozen=True):
    """Labels and annotations of the pods, besides those of the operator."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PodPlacement(_Part, frozen=True):
    """Where pods may run, as in the spec of a pod; handed on as it is."""

    node_selector: dict[str, str] = {}
    tolerations: list[Json] = []
    affinity: Json | None = None
    topology_spread_constraints: list[Json] = []
    priority_class_name: str | None = None
    image_pull_secrets: list[Json] = []


class PodTemplate(_Part, frozen=True):
    """What the pods carry besides what the operator sets."""

    metadata: PodMetadata = PodMetadata()
    spec: PodPlacement = PodPlacement()


class Auth(_Part, frozen=True):
    """Who may call."""

    secret_name: Annotated[str, Meta(min_length=1)] | None = None
    """A Secret with the tokens; None has the operator make one."""


class Monitoring(_Part, frozen=True):
    """How the buffer is watched."""

    pod_monitor: bool = False
    labels: dict[str, str] = {}


class NetworkPolicy(_Part, frozen=True):
    """Who may connect."""

    enabled: bool = False
    peers: list[Json] = msgspec.field(default_factory=list, name="from")
    """As in a NetworkPolicy; none stands for every pod of the namespace."""


class Spec(_Part, frozen=True):
    """What the user wants of one buffer."""

    embedding: Embedding
    replicas: Literal[0, 1] = 1
    suspend: bool = False
    image: str | None = None
    capacity: Annotated[int, Meta(ge=1)] = 100_000
    capacity_bytes: Quantity | None = None
    sampling: Sampling = Sampling()
    index: Index = Index()
    rebuild: Rebuild = Rebuild()
    persistence: Persistence = Persistence()
    gpu: Gpu | None = None
    resources: Resources = Resources()
    pod_template: PodTemplate = PodTemplate()
    auth: Auth = Auth()
    monitoring: Monitoring = Monitoring()
    network_policy: NetworkPolicy = NetworkPolicy()
    disruption_budget: Literal["Auto", "Block"] = "Auto"

    @property
    def suspended(self) -> bool:
        """Whether there is to be no pod; said by ``suspend`` or by scaling to 0."""
        return self.suspend or self.replicas == 0

    @property
    def pods_wanted(self) -> int:
        """How many pods there are to be."""
        return 0 if self.suspended else self.replicas


def parse_spec(raw: Json) -> Spec:
    """Return the typed spec; raises InvalidSpecError, also for what the CRD of this version would have refused."""
    try:
        spec = msgspec.convert(raw, Spec)
    except msgspec.ValidationError as error:
        raise InvalidSpecError(f"The spec is not valid: {error}.") from error
    broken = broken_rule(spec)
    if broken:
        raise InvalidSpecError(f"{broken}.")
    if spec.rebuild.schedule is not None:
        try:
            check_schedule(spec.rebuild.schedule)
        except InvalidScheduleError as error:
            raise InvalidSpecError(f"rebuild.schedule is no schedule: {error}.") from error
    return spec
