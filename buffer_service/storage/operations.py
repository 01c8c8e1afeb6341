"""The log of operations: everything that ever changes a buffer is one of these, each with its own sequence number.

Applying an operation reads no clock, no randomness and no configuration, so replaying the log gives the same state
anywhere.
"""

from __future__ import annotations

import msgspec


class Append(msgspec.Struct, frozen=True, tag="append", array_like=True):
    """Add one experience. Ids are dense, rise with every append and are never reused."""

    sequence: int
    id: int
    created_at: float
    """Unix time in seconds."""
    priority: float
    """Initial priority without the age term, see ``core.priority``."""
    client_id: str | None
    fingerprint: bytes
    """Digest of the content, which tells a retry from another experience under the same client_id."""
    payload: bytes
    """MessagePack of the experience without its vector; opaque to the store."""
    vector: bytes
    """The embedding: ``dimension`` little-endian float32."""


class Evict(msgspec.Struct, frozen=True, tag="evict", array_like=True):
    """Drop the oldest experience because the capacity is used up."""

    sequence: int
    id: int


class Remove(msgspec.Struct, frozen=True, tag="remove", array_like=True):
    """Drop an experience because a caller asked for it."""

    sequence: int
    id: int


class SetPriorities(msgspec.Struct, frozen=True, tag="priorities", array_like=True):
    """Set the priorities of live experiences."""

    sequence: int
    updates: list[tuple[int, float]]
    """Pairs of id and priority."""


class ReportOutcomes(msgspec.Struct, frozen=True, tag="outcomes", array_like=True):
    """Count successes and failures of live experiences."""

    sequence: int
    request_id: str | None
    fingerprint: bytes
    outcomes: list[tuple[int, bool]]
    """Pairs of id and success; only those that were live."""
    answer: bytes
    """What the caller was told, to be told again on a retry with the same request_id."""


class CountRetrievals(msgspec.Struct, frozen=True, tag="retrievals", array_like=True):
    """Add to the retrieval counters; gathered from many reads."""

    sequence: int
    counts: list[tuple[int, int, int]]
    """Triples of id, retrievals by search, draws by sample."""


class SwitchIndex(msgspec.Struct, frozen=True, tag="switch", array_like=True):
    """An index operation: from here on ``generation`` is served."""

    sequence: int
    generation: int
    revision: int
    watermark: int


Operation = Append | Evict | Remove | SetPriorities | ReportOutcomes | CountRetrievals | SwitchIndex


def encode_operations(operations: list[Operation]) -> bytes:
    """Return the operations as one MessagePack array."""
    return msgspec.msgpack.encode(operations)


_decoder = msgspec.msgpack.Decoder(list[Operation])


def decode_operations(data: bytes | memoryview) -> list[Operation]:
    """Parse what encode_operations wrote; raises msgspec.DecodeError for anything else."""
    return _decoder.decode(data)
