"""The pointer: which generation is to be served.

In a cluster it is one key of a ConfigMap, locally one file of a directory. It is only ever moved by compare-and-swap.
``revision`` rises by one with every move, so that a rollback (to a lower generation) is still a later pointer.
"""

from __future__ import annotations

import msgspec


class InvalidPointerError(ValueError):
    """The text is not a pointer; the message says what is wrong with it."""


class Pointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pointer to one generation. Generation 0 means: no index yet, everything is in the delta."""

    revision: int
    """Rises by one with every move of the pointer."""
    generation: int
    watermark: int
    """Sequence number up to which the generation holds the buffer's content."""
    manifest_sha256: str
    """Hex digest of the generation's manifest.json; empty for generation 0."""
    reason: str
    """Why it was moved: ``initial``, ``rebuild`` or ``rollback``."""
    flipped_at: float
    """Unix time of the move, in seconds."""

    def moved_back_since(self, revision: int) -> bool:
        """Whether the last move was a rollback, and came after this revision."""
        return self.revision > revision and self.reason == "rollback"


INITIAL = Pointer(revision=0, generation=0, watermark=0, manifest_sha256="", reason="initial", flipped_at=0.0)
"""What is served before the first generation exists."""

_POINTER_BYTES_MAX = 4096


def encode_pointer(pointer: Pointer) -> str:
    """Return the pointer as one line of JSON."""
    return msgspec.json.encode(pointer).decode()


def decode_pointer(text: str | bytes) -> Pointer:
    """Parse a pointer; raises InvalidPointerError for anything that encode_pointer would not have written."""
    if len(text) > _POINTER_BYTES_MAX:
        raise InvalidPointerError(f"a pointer of {len(text)} bytes, at most {_POINTER_BYTES_MAX} are accepted")
    try:
        pointer = msgspec.json.decode(text, type=Pointer)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidPointerError(f"not a pointer: {error}") from error
    if min(pointer.revision, pointer.generation, pointer.watermark) < 0:
        raise InvalidPointerError("revision, generation and watermark must not be negative")
    if pointer.generation and len(pointer.manifest_sha256) != 64:  # noqa: PLR2004 - hex digits of a SHA-256
        raise InvalidPointerError("manifest_sha256 must be the 64 hex digits of a SHA-256")
    return pointer


def successor(
    current: Pointer, *, generation: int, watermark: int, manifest_sha256: str, reason: str, now: float
) -> Pointer:
    """Return the pointer that follows ``current``; ``now`` is Unix time in seconds."""
    return Pointer(
        revision=current.revision + 1,
        generation=generation,
        watermark=watermark,
        manifest_sha256=manifest_sha256,
        reason=reason,
        flipped_at=now,
    )
