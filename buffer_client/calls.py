"""The HTTP contract, one function per endpoint: arguments → ``Call``. Shared by the sync and the async client.

Searches that want only ids and scores travel as raw float32, and draws come as raw arrays. All other bodies are
MessagePack, with a vector as a ``bin`` of little-endian float32; answers are MessagePack where the service offers it,
else JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_client import answers
from buffer_client.models import (
    AppendResult,
    Experience,
    ExperiencePage,
    ExportFormat,
    ExportResult,
    Include,
    Mode,
    Rank,
    SampleBatch,
    SearchResult,
    StoredExperience,
    UpdateStatus,
    Vector,
    WeightNorm,
)
from buffer_client.wire import ACCEPT_ARRAYS, OCTETS, Call, Repeat, Request, matrix, post, vector
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import ServiceStatus

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Encoded:
    """An experience as it is sent: what is written into its arrays afterwards changes nothing."""

    experience: Experience
    body: bytes


def encode(item: Experience) -> Encoded:
    """Encode one experience; raises ValueError for a vector of another shape, TypeError for what has no encoding."""
    return Encoded(item, _encode(_fields(item)))


def append(encoded: Sequence[Encoded]) -> Call[AppendResult]:
    """POST /v1/experiences. Safe to repeat, because each experience carries its client_id."""
    request = post("/v1/experiences", {"experiences": [msgspec.Raw(item.body) for item in encoded]})
    return Call(request, Repeat.IDEMPOTENT, partial(answers.append, count=len(encoded)))


def _fields(item: Experience) -> dict[str, Any]:
    fields: dict[str, Any] = {"client_id": item.client_id, "confidence": float(item.confidence)}
    for name in ("question", "answer", "image_uri"):
        if (text := getattr(item, name)) is not None:
            fields[name] = text
    if item.visual is not None:
        fields["visual"] = vector(item.visual).tobytes()
    if item.text is not None:
        fields["text"] = vector(item.text).tobytes()
    if item.trajectory is not None:
        fields["trajectory"] = list(item.trajectory)
    if item.rewards is not None:
        fields["rewards"] = [float(value) for value in item.rewards]
    if item.reward is not None:
        fields["reward"] = float(item.reward)
    if item.metadata is not None:
        fields["metadata"] = dict(item.metadata)
    return fields


def search(
    vectors: Vector | None,
    *,
    visual: Vector | None,
    text: Vector | None,
    k: int,
    where: Mapping[str, Any] | None,
    rank: Rank | None,
    include: Include,
    min_sequence: int,
) -> Call[SearchResult]:
    """POST /v1/search; raises ValueError unless either ``vectors`` or a modality is given."""
    if (vectors is None) == (visual is None and text is None):
        raise ValueError("a search needs either vectors, or visual, text or both")
    if vectors is not None and where is None and rank is None and not include:
        return _search_raw(matrix(vectors), k, min_sequence)
    fields: dict[str, Any] = {"k": k}
    count = 1
    if vectors is not None:
        rows = matrix(vectors)
        count = len(rows)
        fields["vectors"] = [row.tobytes() for row in rows]
    if visual is not None:
        fields["visual"] = vector(visual).tobytes()
    if text is not None:
        fields["text"] = vector(text).tobytes()
    if where is not None:
        fields["filter"] = dict(where)
    if rank is not None:
        fields["rank"] = {name: value for name, value in asdict(rank).items() if value is not None}
    if include:
        fields["include"] = sorted(include)
    if min_sequence:
        fields["min_sequence"] = min_sequence
    parse = partial(answers.search, count=count, k=k, include=frozenset(include), ranked=rank is not None)
    return Call(post("/v1/search", fields), Repeat.READ, parse)


def _search_raw(rows: npt.NDArray[np.float32], k: int, min_sequence: int) -> Call[SearchResult]:
    query = {"k": str(k)}
    if min_sequence:
        query["min_sequence"] = str(min_sequence)
    request = Request("POST", "/v1/search", rows.tobytes(), OCTETS, query)
    return Call(request, Repeat.READ, partial(answers.search_raw, count=len(rows), k=k))


def get(experience: int) -> Call[StoredExperience]:
    """GET /v1/experiences/{id}."""
    return Call(Request("GET", f"/v1/experiences/{experience:d}"), Repeat.READ, answers.experience)


def remove(experience: int) -> Call[int]:
    """DELETE /v1/experiences/{id}. A repetition would be told that the experience is gone."""
    return Call(Request("DELETE", f"/v1/experiences/{experience:d}"), Repeat.ONCE, answers.removed)


def page(cursor: int, limit: int, include: Include) -> Call[ExperiencePage]:
    """GET /v1/experiences."""
    query = {"cursor": str(cursor), "limit": str(limit)}
    if "vector" in include:
        query["include"] = "vector"
    return Call(Request("GET", "/v1/experiences", query=query), Repeat.READ, answers.page)


def sample(
    size: int,
    *,
    beta: float | None,
    unique: bool,
    mode: Mode | None,
    where: Mapping[str, Any] | None,
    weight_norm: WeightNorm | None,
    include: Include,
) -> Call[SampleBatch]:
    """POST /v1/sample; what is None is left to the service."""
    fields: dict[str, Any] = {"size": size, "unique": unique}
    choices = {"beta": beta, "mode": mode, "weight_norm": weight_norm}
    fields |= {name: value for name, value in choices.items() if value is not None}
    if where is not None:
        fields["filter"] = dict(where)
    if include:
        fields["include"] = sorted(include)
    parse = partial(answers.sample, include=frozenset(include))
    return Call(post("/v1/sample", fields, ACCEPT_ARRAYS), Repeat.READ, parse)


def update_priorities(
    ids: npt.ArrayLike, priorities: npt.ArrayLike, sequences: npt.ArrayLike | None
) -> Call[list[UpdateStatus]]:
    """POST /v1/priorities. A repetition would find the sequences that it itself made stale."""
    columns = [_column(ids, np.int64), _column(priorities, np.float64)]
    names = ["id", "priority"]
    if sequences is not None:
        columns.append(_column(sequences, np.int64))
        names.append("sequence")
    updates = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    request = post("/v1/priorities", {"updates": updates})
    return Call(request, Repeat.ONCE, partial(answers.statuses, count=len(updates)))


def report_outcomes(ids: npt.ArrayLike, successes: npt.ArrayLike, request_id: str | None) -> Call[list[UpdateStatus]]:
    """POST /v1/outcomes. Safe to repeat, because it carries a request_id."""
    pairs = zip(_column(ids, np.int64), _column(successes, np.bool_), strict=True)
    outcomes = [{"id": experience, "success": success} for experience, success in pairs]
    request = post("/v1/outcomes", {"request_id": request_id or uuid4().hex, "outcomes": outcomes})
    return Call(request, Repeat.IDEMPOTENT, partial(answers.statuses, count=len(outcomes)))


def _column(values: npt.ArrayLike, dtype: type[np.generic]) -> list[Any]:
    return np.atleast_1d(np.asarray(values, dtype=dtype)).ravel().tolist()


def status() -> Call[ServiceStatus]:
    """GET /v1/status."""
    return Call(Request("GET", "/v1/status"), Repeat.READ, answers.status)


def export(kind: ExportFormat) -> Call[int]:
    """GET /v1/export, whose body is streamed; the result is the sequence number that it is of."""
    return Call(Request("GET", "/v1/export", query={"format": kind}), Repeat.READ, answers.exported)


def write_export() -> Call[ExportResult]:
    """POST /v1/admin/export. A repetition finds nothing new to write."""
    return Call(Request("POST", "/v1/admin/export"), Repeat.IDEMPOTENT, answers.written_export)


def rollback(generation: int | None) -> Call[Pointer]:
    """POST /v1/admin/rollback."""
    request = Request("POST", "/v1/admin/rollback", msgspec.json.encode({"generation": generation}))
    return Call(request, Repeat.ONCE, answers.rollback)
