"""Bodies of the plain ASGI routes. Unknown fields are refused."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from buffer_service.core.embedding import Given
from buffer_service.core.experience import Experience, StoredExperience

Include = list[Literal["experience"]]


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
    vectors: list[list[float]] | None = None
    visual: Given | None = None
    text: Given | None = None
    k: int = 10
    filter: dict[str, Any] | None = None
    min_sequence: int = 0
    include: Include = []
    probes: int | None = None
    """Inverted lists to search, where the index has such; else it is passed over, as is ``ef``."""
    ef: int | None = None
    """Candidates kept on the way through the graph, where the index is one."""


class Hit(msgspec.Struct, omit_defaults=True):
    """One neighbour; a higher score is nearer."""

    id: int
    score: float
    experience: StoredExperience | None = None


class SearchAnswer(msgspec.Struct):
    """One list of hits for each query, best first."""

    results: list[list[Hit]]
    sequence: int
    generation: int


class SampleBody(Body):
    """POST /v1/sample."""

    size: int
    beta: float | None = None
    unique: bool = False
    include: Include = []


class SampleItem(msgspec.Struct, omit_defaults=True):
    """One draw."""

    id: int
    probability: float
    weight: float
    """(table_size · probability)^−beta, divided by the largest of the batch."""
    sequence: int
    """To be sent back with a priority update, which is then refused if the experience has changed since."""
    experience: StoredExperience | None = None


class SampleAnswer(msgspec.Struct):
    """A batch; fewer than asked for only where experiences left while it was read."""

    items: list[SampleItem]
    table_size: int


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
