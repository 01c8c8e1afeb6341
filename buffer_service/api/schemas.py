"""Bodies of the plain ASGI routes. Unknown fields are refused."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_service.core.drawing import Mode, WeightNorm
from buffer_service.core.embedding import Given
from buffer_service.core.experience import Experience, StoredExperience
from buffer_service.core.ranking import Rank

Include = list[Literal["experience", "vector"]]
Vector = npt.NDArray[np.float32]
"""A list of numbers in JSON, little-endian float32 in MessagePack."""


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of request bodies."""


class AppendBody(Body):
    """POST /v1/experiences."""

    experiences: list[Experience]


class AppendAnswer(msgspec.Struct):
    """Ids in the order given; a search with min_sequence = sequence finds them all."""

    ids: list[int]
    sequence: int


class SearchBody(Body):
    """POST /v1/search: one of vector, visual and/or text, or vectors."""

    vector: Given | None = None
    vectors: list[Given] | None = None
    visual: Given | None = None
    text: Given | None = None
    k: int = 10
    filter: dict[str, Any] | None = None
    rank: Rank | None = None
    """Order the nearest by what has helped and is fresh, too."""
    min_sequence: int = 0
    include: Include = []
    probes: int | None = None
    """Inverted lists to search, where the index has such; else it is passed over, as is ``ef``."""
    ef: int | None = None
    """Candidates kept on the way through the graph, where the index is one."""


class Parts(msgspec.Struct):
    """What the score of a ranked search is made of, see ``core.ranking``."""

    similarity: float
    success: float
    freshness: float


class Hit(msgspec.Struct, omit_defaults=True):
    """One neighbour; a higher score is nearer, or with ``rank`` of more use."""

    id: int
    score: float
    experience: StoredExperience | None = None
    vector: Vector | None = None
    parts: Parts | None = None


class SearchAnswer(msgspec.Struct):
    """One list of hits for each query, best first."""

    results: list[list[Hit]]
    sequence: int
    generation: int


class SampleBody(Body):
    """POST /v1/sample."""

    size: int
    mode: Mode = "prioritised"
    filter: dict[str, Any] | None = None
    beta: float | None = None
    weight_norm: WeightNorm = "batch"
    unique: bool = False
    include: Include = []


class SampleItem(msgspec.Struct, omit_defaults=True):
    """One draw."""

    id: int
    probability: float
    weight: float
    """(table_size · probability)^−beta, divided by the largest of the batch, or that there can be: ``weight_norm``."""
    sequence: int
    """To be sent back with a priority update, which is then refused if the experience has changed since."""
    experience: StoredExperience | None = None
    vector: Vector | None = None


class SampleAnswer(msgspec.Struct):
    """A batch; fewer than asked for only where experiences left while it was read."""

    items: list[SampleItem]
    table_size: int
    """Experiences that could be drawn: with a filter, those that pass it."""
    mode: Mode
    weight_norm: WeightNorm


class PriorityItem(Body):
    """A new priority."""

    id: int
    priority: float
    sequence: int | None = None


class PrioritiesBody(Body):
    """POST /v1/priorities."""

    updates: list[PriorityItem]


class OutcomeItem(Body):
    """Whether an experience helped."""

    id: int
    success: bool


class OutcomesBody(Body):
    """POST /v1/outcomes."""

    outcomes: list[OutcomeItem]
    request_id: str | None = None


class UpdateAnswer(msgspec.Struct):
    """What became of one item: applied, evicted or stale."""

    id: int
    status: str


class UpdatesAnswer(msgspec.Struct):
    """In the order given."""

    results: list[UpdateAnswer]
