"""What a request asks to have beside ids: experiences and vectors, read from the store. Any thread."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from buffer_service.core import reading
from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.core.embedding import Vectors
from buffer_service.core.experience import StoredExperience
from buffer_service.errors import InvalidRequestError

EXPERIENCE, VECTOR = "experience", "vector"


@dataclass(frozen=True, slots=True)
class Contents:
    """By id, as far as it was asked for and is still there."""

    experiences: Mapping[int, StoredExperience | None] = field(default_factory=dict)
    vectors: Mapping[int, Vectors] = field(default_factory=dict)


NOTHING = Contents()


def require_room(buffer: ExperienceBuffer, include: Collection[str], rows: int) -> None:
    """Raise InvalidRequestError where the vectors of so many rows would take more than a body may."""
    limit = buffer.settings.server.body_bytes_max
    row_bytes = 4 * buffer.settings.embedding.dimension
    if VECTOR in include and rows * row_bytes > limit:
        raise InvalidRequestError(
            f"{rows} rows with their vectors are more than {limit} bytes; ask for at most {limit // row_bytes}"
        )


def contents_of(buffer: ExperienceBuffer, ids: list[int], include: Collection[str]) -> Contents:
    """Read what is asked for of these ids; those below 1 stand for nothing."""
    wanted = list(dict.fromkeys(experience for experience in ids if experience > 0))
    experiences, vectors = {}, {}
    if EXPERIENCE in include:
        experiences = dict(zip(wanted, buffer.get_many(wanted), strict=True))
    if VECTOR in include:
        known = np.array(wanted, np.int64)
        found, rows = reading.vectors(buffer, known)
        vectors = dict(zip(known[found].tolist(), rows[found], strict=True))
    return Contents(experiences, vectors)
