"""Answers to draws: as items, or as bare arrays, for which neither side makes an object for each draw."""

from __future__ import annotations

import numpy as np

from buffer_service.api.contents import EXPERIENCE, NOTHING, VECTOR, contents_of, require_room
from buffer_service.api.messages import OCTETS, Answer, Request, decode, encode
from buffer_service.api.schemas import SampleAnswer, SampleBody, SampleItem
from buffer_service.core import reading
from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.core.sampler import Drawn


def answer(buffer: ExperienceBuffer, request: Request) -> Answer:
    """Draw, and answer as the caller accepts it. Any thread."""
    body = decode(request, SampleBody)
    require_room(buffer, body.include, body.size)
    drawn = buffer.sample(
        body.size,
        beta=body.beta,
        unique=body.unique,
        mode=body.mode,
        weight_norm=body.weight_norm,
        wanted=body.filter,
    )
    if OCTETS in request.accept:
        return _arrays(buffer, drawn, body)
    return encode(request, SampleAnswer(_items(buffer, drawn, body), drawn.table_size, body.mode, body.weight_norm))


def _items(buffer: ExperienceBuffer, drawn: Drawn, body: SampleBody) -> list[SampleItem]:
    ids = drawn.ids.tolist()
    contents = contents_of(buffer, ids, body.include) if body.include else NOTHING
    columns = (drawn.probabilities.tolist(), drawn.weights.tolist(), drawn.versions.tolist())
    parts = (map(contents.experiences.get, ids), map(contents.vectors.get, ids))
    return [SampleItem(*fields) for fields in zip(ids, *columns, *parts, strict=True)]


def _arrays(buffer: ExperienceBuffer, drawn: Drawn, body: SampleBody) -> Answer:
    """Return ids, probabilities, weights and sequences of n draws, then what is asked for: vectors, experiences.

    Numbers are little-endian; the experiences are one MessagePack array.
    """
    kept = np.ones(len(drawn.ids), bool)  # some may leave while this answer is made
    rows, experiences = None, b""
    if VECTOR in body.include:
        kept, rows = reading.vectors(buffer, drawn.ids)
    if EXPERIENCE in body.include:
        kept[kept], experiences = buffer.get_packed(drawn.ids[kept])
    columns = ((drawn.ids, "<i8"), (drawn.probabilities, "<f8"), (drawn.weights, "<f8"), (drawn.versions, "<i8"))
    parts = [column[kept].astype(kind).tobytes() for column, kind in columns]
    if rows is not None:
        parts.append(rows[kept].astype("<f4").tobytes())
    headers = (
        (b"x-size", b"%d" % np.count_nonzero(kept)),
        (b"x-dimension", b"%d" % buffer.settings.embedding.dimension),
        (b"x-table-size", b"%d" % drawn.table_size),
        (b"x-weight-norm", body.weight_norm.encode()),
    )
    return Answer(b"".join([*parts, experiences]), OCTETS, headers=headers)
