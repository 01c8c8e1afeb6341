"""Reading experiences back, and the buffer's status."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from buffer_service.contract.status import ServiceStatus, StoreHealth
from buffer_service.core.experience import StoredExperience, decode_content
from buffer_service.core.sampler import Sampler
from buffer_service.errors import EvictedExperienceError, UnknownExperienceError
from buffer_service.observability.process import rss_bytes
from buffer_service.storage.base import Store
from buffer_service.storage.table import Row

if TYPE_CHECKING:
    from buffer_service.core.buffer import ExperienceBuffer

VERSION = version("experience-buffer")


def one(store: Store, sampler: Sampler, experience: int, now_s: float) -> StoredExperience:
    """Return one experience with its vector."""
    if not 1 <= experience < store.table.header.next_id:
        raise UnknownExperienceError(f"no experience was ever given the id {experience}")
    (found,) = many(store, sampler, [experience], now_s)
    ids, vectors = store.vectors(np.array([experience], np.int64))
    if found is None or not len(ids):
        raise EvictedExperienceError(f"experience {experience} was evicted or removed")
    found.vector = vectors[0].tolist()
    return found


def many(store: Store, sampler: Sampler, ids: Sequence[int], now_s: float) -> list[StoredExperience | None]:
    """Return experiences without vectors, None for those that are not live."""
    rows = [store.table.row(experience) for experience in ids]
    payloads = store.payloads(ids)
    return [
        None if row is None or payload is None else _stored(row, payload, sampler, now_s)
        for row, payload in zip(rows, payloads, strict=True)
    ]


def status(buffer: ExperienceBuffer) -> ServiceStatus:
    """Return the buffer's state at this moment."""
    view = buffer.serving.view
    settings = buffer.settings
    main = view.main
    dead = int(np.count_nonzero(view.delta.dead_at[: view.delta_rows] <= view.sequence))
    return ServiceStatus(
        version=VERSION,
        started_at=buffer.started_at,
        dimension=settings.embedding.dimension,
        metric=settings.embedding.metric,
        sequence=view.sequence,
        size=len(buffer.store.table),
        capacity=settings.buffer.capacity,
        generation=view.pointer.generation,
        pointer_revision=view.pointer.revision,
        watermark=view.pointer.watermark,
        index_type=main.manifest.index_type if main else "none",
        index_reason=main.manifest.reason if main else "",
        index_parameters=main.manifest.parameters if main else {},
        recall=buffer.recall_check.recall(view.pointer.generation),
        index_rows=len(main.ids) if main else 0,
        delta_rows=view.delta_rows - dead,
        tombstones=main.tombstones if main else 0,
        pending_operations=buffer.serving.pending_operations(),
        backend=buffer.engine.backend,
        store=StoreHealth(
            backend=settings.persistence.backend,
            writable=not buffer.writer.failure,
            reason=buffer.writer.failure,
            size_bytes=buffer.store.size_bytes(),
        ),
        rss_bytes=rss_bytes(),
        rebuild_running=buffer.rebuilder.running,
        rebuild_error=buffer.rebuilder.error,
        switch=buffer.follower.switch,
        refused=buffer.follower.refused,
    )


def _stored(row: Row, payload: bytes, sampler: Sampler, now_s: float) -> StoredExperience:
    content = decode_content(payload)
    retrievals = row.search_retrievals
    return StoredExperience(
        id=row.id,
        sequence=row.version,
        created_at=row.created_at,
        client_id=row.client_id,
        confidence=content.confidence,
        question=content.question,
        answer=content.answer,
        image_uri=content.image_uri,
        trajectory=content.trajectory,
        rewards=content.rewards,
        reward=content.reward,
        metadata=content.metadata,
        retrieval_count=retrievals,
        sample_count=row.sample_retrievals,
        outcome_count=row.outcomes,
        success_count=row.successes,
        success_rate=min(1.0, row.successes / retrievals) if retrievals else None,
        priority=row.priority,
        weight=sampler.weight_of(row, now_s),
    )
