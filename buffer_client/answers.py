"""How each answer of the contract is read: ``Response`` → result, raising ProtocolError for anything else.

Fields that a newer service adds are ignored; fields that the result needs must be there.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_client.errors import Problem, ProtocolError
from buffer_client.models import (
    AppendResult,
    ExperiencePage,
    ExportResult,
    Ids,
    SampleBatch,
    Scores,
    SearchResult,
    StoredExperience,
    UpdateStatus,
)
from buffer_client.wire import Response, decode
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import ServiceStatus

_ID_BYTES = 8
_SCORE_BYTES = 4
NO_ID = -1
"""Stands in a search result where there are fewer neighbours than asked for."""


class _Appended(msgspec.Struct):
    ids: list[int]
    sequence: int


class _Removed(msgspec.Struct):
    sequence: int


class _Hit(msgspec.Struct):
    id: int
    score: float
    experience: StoredExperience | None = None


class _Found(msgspec.Struct):
    results: list[list[_Hit]]
    sequence: int
    generation: int


class _Item(msgspec.Struct):
    id: int
    probability: float
    weight: float
    sequence: int
    experience: StoredExperience | None = None


class _Drawn(msgspec.Struct):
    items: list[_Item]
    table_size: int


class _Page(msgspec.Struct):
    experiences: list[StoredExperience]
    next_cursor: int | None = None


class _Update(msgspec.Struct):
    id: int
    status: UpdateStatus


class _Updates(msgspec.Struct):
    results: list[_Update]


def append(response: Response, *, count: int) -> AppendResult:
    """Read the ids of ``count`` appended experiences."""
    answer = decode(response, _Appended)
    _expect(response, len(answer.ids) == count, f"{len(answer.ids)} ids for {count} experiences")
    return AppendResult(np.array(answer.ids, dtype=np.int64), answer.sequence)


def search(response: Response, *, count: int, k: int, include_experience: bool) -> SearchResult:
    """Read the answer to ``count`` queries.

    A neighbour that left the buffer while the answer was made comes without its experience; where that was asked for,
    it is left out.
    """
    answer = decode(response, _Found)
    _expect(response, len(answer.results) == count, f"{len(answer.results)} results for {count} queries")
    ids, scores = empty_result(count, k)
    experiences: list[list[StoredExperience]] = []
    for row, found in enumerate(answer.results):
        hits = [hit for hit in found if hit.experience is not None] if include_experience else found
        _expect(response, len(hits) <= k, f"{len(hits)} neighbours, at most {k} were asked for")
        ids[row, : len(hits)] = [hit.id for hit in hits]
        scores[row, : len(hits)] = [hit.score for hit in hits]
        experiences.append([hit.experience for hit in hits if hit.experience is not None])
    return SearchResult(ids, scores, answer.sequence, answer.generation, experiences if include_experience else None)


def search_raw(response: Response, *, count: int, k: int) -> SearchResult:
    """Read count·k int64 ids, then count·k float32 scores, little-endian."""
    cells = count * k
    expected_bytes = cells * (_ID_BYTES + _SCORE_BYTES)
    _expect(response, len(response.body) == expected_bytes, f"{len(response.body)} bytes instead of {expected_bytes}")
    ids = np.frombuffer(response.body, dtype="<i8", count=cells).reshape(count, k)
    scores = np.frombuffer(response.body, dtype="<f4", count=cells, offset=cells * _ID_BYTES).reshape(count, k)
    scores = np.where(ids == NO_ID, np.float32(np.nan), scores)
    return SearchResult(ids, scores, _header(response, "x-sequence"), _header(response, "x-generation"))


def empty_result(count: int, k: int) -> tuple[Ids, Scores]:
    """Return ids and scores of a result in which nothing has been found yet."""
    return np.full((count, k), NO_ID, dtype=np.int64), np.full((count, k), np.nan, dtype=np.float32)


def experience(response: Response) -> StoredExperience:
    """Read one experience."""
    return decode(response, StoredExperience)


def removed(response: Response) -> int:
    """Read the sequence number of a removal."""
    return decode(response, _Removed).sequence


def page(response: Response) -> ExperiencePage:
    """Read a page."""
    answer = decode(response, _Page)
    return ExperiencePage(answer.experiences, answer.next_cursor)


def sample(response: Response, *, include_experience: bool) -> SampleBatch:
    """Read a draw; as in searches, what left meanwhile is left out where experiences were asked for."""
    answer = decode(response, _Drawn)
    items = [item for item in answer.items if item.experience is not None] if include_experience else answer.items
    return SampleBatch(
        ids=np.array([item.id for item in items], dtype=np.int64),
        probabilities=_floats([item.probability for item in items]),
        weights=_floats([item.weight for item in items]),
        sequences=np.array([item.sequence for item in items], dtype=np.int64),
        table_size=answer.table_size,
        experiences=[item.experience for item in items if item.experience is not None] if include_experience else None,
    )


def statuses(response: Response, *, count: int) -> list[UpdateStatus]:
    """Read what became of each of ``count`` ids."""
    answer = decode(response, _Updates)
    _expect(response, len(answer.results) == count, f"{len(answer.results)} statuses for {count} ids")
    return [item.status for item in answer.results]


def status(response: Response) -> ServiceStatus:
    """Read the state of the service."""
    return decode(response, ServiceStatus)


def export(response: Response) -> ExportResult:
    """Read how far an export goes."""
    return decode(response, ExportResult)


def rollback(response: Response) -> Pointer:
    """Read where the pointer stands after a rollback."""
    return decode(response, Pointer)


def _floats(values: list[float]) -> npt.NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def _header(response: Response, name: str) -> int:
    try:
        return int(response.headers[name])
    except (KeyError, ValueError) as error:
        raise ProtocolError(
            Problem(status=response.status, detail=f"the answer lacks a whole number in {name}")
        ) from error


def _expect(response: Response, holds: bool, detail: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise ProtocolError(
            Problem(status=response.status, title="Unexpected answer", detail=f"the answer has {detail}")
        )
