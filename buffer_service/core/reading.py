"""Reading experiences back, and the buffer's status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_service.contract.status import ServiceStatus, StoreHealth
from buffer_service.core.embedding import Vectors
from buffer_service.core.experience import StoredExperience
from buffer_service.core.priority import Weighing, success_multiplier
from buffer_service.core.splicing import splice
from buffer_service.errors import EvictedExperienceError, UnknownExperienceError
from buffer_service.index.metric import Ids
from buffer_service.observability.process import room_of, rss_bytes
from buffer_service.settings import SamplingSettings
from buffer_service.storage.base import Store
from buffer_service.storage.table import Table

if TYPE_CHECKING:
    from buffer_service.core.buffer import ExperienceBuffer

VERSION = version("experience-buffer")
_PUBLICATION_TIMEOUT_S = 1.0
"""Between commit and publication lie milliseconds; where the writer ended there, nobody waits for longer."""
_Bare = msgspec.defstruct(
    "_Bare",
    [(field.name, field.type, None) for field in msgspec.structs.fields(StoredExperience)],
    bases=(StoredExperience,),
    kw_only=True,
)
"""An experience as its payload is decoded into, with nothing else filled in; so no field has to be copied."""
_decode = cast("Callable[[bytes], StoredExperience]", msgspec.msgpack.Decoder(_Bare).decode)


def one(store: Store, settings: SamplingSettings, experience: int, now_s: float) -> StoredExperience:
    """Return one experience with its vector."""
    if not 1 <= experience < store.table.header.next_id:
        raise UnknownExperienceError(f"no experience was ever given the id {experience}")
    found = with_vectors(store, [item for item in many(store, settings, [experience], now_s) if item is not None])
    if not found:
        raise EvictedExperienceError(f"experience {experience} was evicted or removed")
    return found[0]


def many(store: Store, settings: SamplingSettings, ids: Sequence[int], now_s: float) -> list[StoredExperience | None]:
    """Return experiences without vectors, None for those that are not live."""
    read = _read(store, settings, np.array(ids, np.int64), now_s)
    rows = zip(*(column.tolist() for column in read.numbers.values()), strict=True)
    found = {}
    for client_id, payload, row in zip(read.client_ids, read.payloads, rows, strict=True):
        item = _decode(payload)
        item.client_id = client_id
        (
            item.id, item.sequence, item.created_at, item.priority, item.weight, item.sample_count, item.outcome_count,
            item.success_count, item.retrieval_count,
        ) = row  # fmt: skip
        if item.retrieval_count:
            item.success_rate = min(1.0, item.success_count / item.retrieval_count)
        found[item.id] = item
    return [found.get(experience) for experience in ids]


def packed(store: Store, settings: SamplingSettings, ids: Ids, now_s: float) -> tuple[npt.NDArray[np.bool_], bytes]:
    """Return which of these ids are live, and what ``many`` does of those as one MessagePack array.

    Fields without a value are left out.
    """
    read = _read(store, settings, ids, now_s)
    searches, successes = read.numbers["retrieval_count"], read.numbers["success_count"]
    rates = np.where(searches > 0, np.minimum(1.0, successes / np.maximum(1, searches)), np.nan)
    return read.found, splice(read.payloads, read.client_ids, read.numbers, ("success_rate", rates))


def vectors(buffer: ExperienceBuffer, ids: Ids) -> tuple[npt.NDArray[np.bool_], Vectors]:
    """Return which of these ids have a vector, and a row for each, undefined for the others.

    From the index, which holds nearly all in memory, else from the store.
    """
    found, rows = buffer.serving.view.vectors_of(ids)
    missing = np.flatnonzero(~found)
    if len(missing):
        read, others = buffer.store.vectors(ids[missing])
        here = missing[np.isin(ids[missing], read)]
        rows[here], found[here] = others, True
    return found, rows


def with_vectors(store: Store, experiences: Sequence[StoredExperience]) -> list[StoredExperience]:
    """Return those that are still live, with their vectors."""
    wanted = np.array([found.id for found in experiences], np.int64)
    ids, vectors = store.vectors(wanted)
    if len(ids) < len(wanted):
        _wait_until_gone(store.table, np.setdiff1d(wanted, ids))
    by_id = dict(zip(ids.tolist(), vectors, strict=True))
    for found in experiences:
        found.vector = by_id.get(found.id)
    return [found for found in experiences if found.vector is not None]


def status(buffer: ExperienceBuffer) -> ServiceStatus:
    """Return the buffer's state at this moment."""
    view = buffer.serving.view
    settings = buffer.settings
    main = view.main
    room = room_of(buffer.folder)
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
        index_recall=main.manifest.recall_at_10 if main else None,
        index_built_at=main.manifest.built_at if main else None,
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
            volume_size_bytes=room.size_bytes,
            volume_free_bytes=room.free_bytes,
        ),
        rss_bytes=rss_bytes(),
        rebuild_running=buffer.rebuilder.running,
        rebuild_error=buffer.rebuilder.error,
        switch=buffer.follower.switch,
        refused=buffer.follower.refused,
    )


class _Read(NamedTuple):
    """What was there of some ids, in their order."""

    found: npt.NDArray[np.bool_]
    """For each id whether it was there; all other parts have one item for each that was."""
    payloads: list[bytes]
    client_ids: list[str | None]
    numbers: dict[str, npt.NDArray[Any]]
    """By field of an experience: column by column, for cell by cell it would take longer than all the rest."""


def _read(store: Store, settings: SamplingSettings, ids: Ids, now_s: float) -> _Read:
    table = store.table
    with table.lock:
        found = (slots := table.slots_of(ids)) >= 0
        live, slots = ids[found], slots[found]
        numbers = {"id": live, **_numbers(table, slots, Weighing(settings, now_s), now_s)}
        client_ids = table.client_ids_at(slots.tolist())
    read = store.payloads(live.tolist())
    payloads = [payload for payload in read if payload is not None]
    if len(payloads) < len(read):  # some have left meanwhile
        kept = [payload is not None for payload in read]
        _wait_until_gone(table, live[~np.array(kept)])
        found[found] = kept
        client_ids = [name for name, is_kept in zip(client_ids, kept, strict=True) if is_kept]
        numbers = {name: values[kept] for name, values in numbers.items()}
    return _Read(found, payloads, client_ids, numbers)


def _wait_until_gone(table: Table, ids: Ids) -> None:
    """Wait until what the store does not have any more has left the table and the view, too.

    Or one caller would be told that it has gone, and another one's search would find it afterwards.
    """
    with table.published:
        table.published.wait_for(lambda: bool((table.slots_of(ids) < 0).all()), _PUBLICATION_TIMEOUT_S)


def _numbers(
    table: Table, slots: npt.NDArray[np.int64], weighing: Weighing, now_s: float
) -> dict[str, npt.NDArray[Any]]:
    created_at, priority = table.created_at[slots], table.priority[slots]
    successes, searches = table.successes[slots], table.search_retrievals[slots]
    multiplier = success_multiplier(successes.astype(np.float64), searches.astype(np.float64))
    # A clock that was set back makes nobody younger than new.
    weights = weighing.factors(now_s) @ weighing.split(priority, multiplier, np.minimum(created_at, now_s))
    return {
        "sequence": table.version[slots],
        "created_at": created_at,
        "priority": priority,
        "weight": weights,
        "sample_count": table.sample_retrievals[slots],
        "outcome_count": table.outcomes[slots],
        "success_count": successes,
        "retrieval_count": searches,
    }
