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
    Include,
    RankParts,
    SampleBatch,
    Scores,
    SearchResult,
    StoredExperience,
    UpdateStatus,
    Vectors,
)
from buffer_client.wire import OCTETS, Response, decode, decode_part
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import ServiceStatus

_ID_BYTES = 8
_SCORE_BYTES = _FLOAT_BYTES = 4
_COLUMNS = ("<i8", "<f8", "<f8", "<i8")
"""Ids, probabilities, weights and sequences of a draw."""
NO_ID = -1
"""Stands in a search result where there are fewer neighbours than asked for."""


class _Appended(msgspec.Struct):
    ids: list[int]
    sequence: int


class _Removed(msgspec.Struct):
    sequence: int


class _Parts(msgspec.Struct):
    similarity: float
    success: float
    freshness: float


class _Hit(msgspec.Struct):
    id: int
    score: float
    experience: StoredExperience | None = None
    vector: bytes | list[float] | None = None
    parts: _Parts | None = None


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
    vector: bytes | list[float] | None = None


class _Drawn(msgspec.Struct):
    items: list[_Item]
    table_size: int
    weight_norm: str = "batch"


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


def search(response: Response, *, count: int, k: int, include: Include = (), ranked: bool = False) -> SearchResult:
    """Read the answer to ``count`` queries.

    A neighbour that left the buffer while the answer was made comes without its experience or vector; where that was
    asked for, it is left out.
    """
    answer = decode(response, _Found)
    _expect(response, len(answer.results) == count, f"{len(answer.results)} results for {count} queries")
    results = [[hit for hit in found if _is_whole(hit, include)] for found in answer.results]
    ids, scores = empty_result(count, k)
    for row, hits in enumerate(results):
        _expect(response, len(hits) <= k, f"{len(hits)} neighbours, at most {k} were asked for")
        ids[row, : len(hits)] = [hit.id for hit in hits]
        scores[row, : len(hits)] = [hit.score for hit in hits]
    experiences = [[hit.experience for hit in hits if hit.experience is not None] for hits in results]
    return SearchResult(
        ids,
        scores,
        answer.sequence,
        answer.generation,
        experiences if "experience" in include else None,
        _hit_vectors(response, results, k) if "vector" in include else None,
        _parts(response, results, k) if ranked else None,
    )


def _is_whole(item: _Hit | _Item, include: Include) -> bool:
    """Return whether it has what was asked for."""
    lacks_experience = "experience" in include and item.experience is None
    return not lacks_experience and not ("vector" in include and item.vector is None)


def _hit_vectors(response: Response, results: list[list[_Hit]], k: int) -> Vectors:
    rows = _matrix(response, [hit.vector for hits in results for hit in hits if hit.vector is not None])
    vectors = np.full((len(results), k, rows.shape[1]), np.nan, np.float32)
    there = np.arange(k) < np.array([len(hits) for hits in results])[:, None]
    vectors[there] = rows
    return vectors


def _matrix(response: Response, rows: list[bytes | list[float]]) -> Vectors:
    """Return the rows, little-endian float32 in MessagePack and lists in JSON, as one matrix, (0, 0) for none."""
    _expect(response, len({len(row) for row in rows}) <= 1, "vectors of different lengths")
    encoded = [row for row in rows if isinstance(row, bytes)]
    if not encoded:
        return np.array(rows, np.float32).reshape(len(rows), -1) if rows else np.zeros((0, 0), np.float32)
    _expect(response, len(encoded) == len(rows), "vectors of two kinds")
    _expect(response, len(encoded[0]) % _FLOAT_BYTES == 0, "vectors that are not float32")
    return np.frombuffer(b"".join(encoded), "<f4").reshape(len(rows), -1).astype(np.float32)


def _parts(response: Response, results: list[list[_Hit]], k: int) -> RankParts:
    parts = np.full((3, len(results), k), np.nan)
    for row, hits in enumerate(results):
        for place, hit in enumerate(hits):
            if hit.parts is None:
                raise ProtocolError(Problem(status=response.status, detail="the answer lacks the parts of its scores"))
            parts[:, row, place] = hit.parts.similarity, hit.parts.success, hit.parts.freshness
    return RankParts(*parts)


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


def sample(response: Response, *, include: Include = ()) -> SampleBatch:
    """Read a draw; as in searches, what left meanwhile is left out where its content was asked for."""
    if response.headers.get("content-type") == OCTETS:
        return _sample_arrays(response, include)
    answer = decode(response, _Drawn)
    items = [item for item in answer.items if _is_whole(item, include)] if include else answer.items
    return SampleBatch(
        ids=np.array([item.id for item in items], dtype=np.int64),
        probabilities=_floats([item.probability for item in items]),
        weights=_floats([item.weight for item in items]),
        sequences=np.array([item.sequence for item in items], dtype=np.int64),
        table_size=answer.table_size,
        experiences=[item.experience for item in items if item.experience is not None]
        if "experience" in include
        else None,
        vectors=_matrix(response, [item.vector for item in items if item.vector is not None])
        if "vector" in include
        else None,
        weight_norm=answer.weight_norm,
    )


def _sample_arrays(response: Response, include: Include) -> SampleBatch:
    """Read n ids, probabilities, weights and sequences of 8 bytes each, then n float32 vectors, then n experiences.

    Vectors and experiences only where they were asked for, the latter as a MessagePack array.
    """
    count = _header(response, "x-size")
    dimension = _header(response, "x-dimension") if "vector" in include else 0
    body, vectors_at = response.body, len(_COLUMNS) * _ID_BYTES * count
    end = vectors_at + _FLOAT_BYTES * count * dimension
    fits = min(count, dimension) >= 0 and (len(body) > end if "experience" in include else len(body) == end)
    _expect(response, fits, f"{len(body)} bytes for {count} draws")
    columns = [np.frombuffer(body, kind, count, place * _ID_BYTES * count) for place, kind in enumerate(_COLUMNS)]
    ids, probabilities, weights, sequences = (column.copy() for column in columns)
    experiences = vectors = None
    if "vector" in include:
        vectors = np.frombuffer(body[vectors_at:end], "<f4").astype(np.float32).reshape(count, dimension)
    if "experience" in include:
        experiences = decode_part(response, end, list[StoredExperience])
        _expect(response, len(experiences) == count, f"{len(experiences)} experiences for {count} draws")
    return SampleBatch(
        ids=ids,
        probabilities=probabilities,
        weights=weights,
        sequences=sequences,
        table_size=_header(response, "x-table-size"),
        experiences=experiences,
        vectors=vectors,
        weight_norm=response.headers.get("x-weight-norm", "batch"),
    )


def statuses(response: Response, *, count: int) -> list[UpdateStatus]:
    """Read what became of each of ``count`` ids."""
    answer = decode(response, _Updates)
    _expect(response, len(answer.results) == count, f"{len(answer.results)} statuses for {count} ids")
    return [item.status for item in answer.results]


def status(response: Response) -> ServiceStatus:
    """Read the state of the service."""
    return decode(response, ServiceStatus)


def exported(response: Response) -> int:
    """Read what sequence number an export is of; its content has been streamed."""
    return _header(response, "x-sequence")


def written_export(response: Response) -> ExportResult:
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
