"""What ``GET /v1/status`` answers: read by the operator, the page and the clients."""

from __future__ import annotations

import msgspec


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """Where FAISS runs."""

    requested: str
    """``auto``, ``gpu`` or ``cpu``."""
    active: str
    """``gpu`` or ``cpu``."""
    reason: str
    """Why ``active`` is what it is; names the fallback when a GPU was asked for and could not be used."""


class StoreHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The durable store."""

    backend: str
    writable: bool
    reason: str
    """Why writes are refused; empty while they are taken."""
    size_bytes: int
    volume_size_bytes: int = 0
    """Size of the file system that the store is on; 0 where it is not known."""
    volume_free_bytes: int = 0
    """What of it the store may still take."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The last pointer that was not followed, and why."""

    revision: int
    generation: int
    reason: str
    at: float


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """The last index switch."""

    generation: int
    revision: int
    at: float
    """Unix time in seconds at which the generation began to serve."""
    since_flip_s: float
    """Seconds from the pointer's move until then."""
    load_s: float


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one buffer process at one moment."""

    version: str
    started_at: float
    dimension: int
    metric: str
    sequence: int
    """Sequence number of the last acknowledged operation."""
    size: int
    capacity: int
    generation: int
    pointer_revision: int
    """Revision of the pointer that is served."""
    watermark: int
    index_type: str
    index_reason: str = ""
    """Why the index is of this type."""
    index_parameters: dict[str, int] = {}
    """What was found at build time, such as ``nprobe``, ``ef``, ``lists``."""
    index_recall: float | None = None
    """Recall@10 on held-out queries, as measured when the index was built; null where there is none."""
    index_built_at: float | None = None
    """Unix time in seconds at which it was built; null where there is none."""
    recall: float | None = None
    """Recall@10 of live searches, as far as they were checked; null while too few have been."""
    index_rows: int
    delta_rows: int
    tombstones: int
    pending_operations: int
    """Operations since the watermark of the generation that is served."""
    backend: Backend
    store: StoreHealth
    rss_bytes: int
    rebuild_running: bool
    rebuild_error: str
    """Why the last rebuild run by this process failed; empty otherwise."""
    switch: Switch | None
    refused: Refusal | None
