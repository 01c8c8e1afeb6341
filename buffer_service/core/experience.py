"""An experience as it is given, as it is stored, and as it is read back."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_service.core.embedding import Given, to_float32
from buffer_service.core.priority import initial_priority
from buffer_service.errors import InvalidRequestError
from buffer_service.settings import Settings

CLIENT_ID_CHARACTERS_MAX = 256
_FINGERPRINT_BYTES = 16
_HASHED_BYTES = 2000
"""From 2,048 bytes on hashlib gives up the interpreter lock, which costs a thread switch for a microsecond of work."""
_VISUAL, _TEXT = b"visual", b"text"


class Experience(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One answer of a model and what came of it, as a caller gives it."""

    confidence: float
    """How sure the model was, 0 to 1."""
    client_id: str | None = None
    """Chosen by the caller; the same one again with the same content adds nothing."""
    visual: Given | None = None
    """Embedding of the image; a list, or little-endian float32 (base64 in JSON)."""
    text: Given | None = None
    """Embedding of the question."""
    question: str | None = None
    answer: str | None = None
    image_uri: str | None = None
    trajectory: list[Any] | None = None
    """The steps that led to the answer."""
    rewards: list[float] | None = None
    """Reward of each step."""
    reward: float | None = None
    """Total reward; the sum of ``rewards`` where it is not given."""
    metadata: dict[str, Any] | None = None


class Content(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the store keeps as payload: an experience without identity and vectors."""

    confidence: float
    question: str | None = None
    answer: str | None = None
    image_uri: str | None = None
    trajectory: list[Any] | None = None
    rewards: list[float] | None = None
    reward: float | None = None
    metadata: dict[str, Any] | None = None


class StoredExperience(msgspec.Struct, kw_only=True):
    """A live experience as it is read back. Counters are those of the moment of reading."""

    id: int
    sequence: int
    """Sequence number of the last change of its priority; sent back with an update it makes that update conditional."""
    created_at: float
    """Unix time in seconds."""
    client_id: str | None
    confidence: float
    question: str | None
    answer: str | None
    image_uri: str | None
    trajectory: list[Any] | None
    rewards: list[float] | None
    reward: float | None
    metadata: dict[str, Any] | None
    retrieval_count: int
    """How often a search returned it."""
    sample_count: int
    """How often it was drawn."""
    outcome_count: int
    success_count: int
    success_rate: float | None
    """success_count / retrieval_count, at most 1; null before the first retrieval."""
    priority: float
    """The static part, see core.priority."""
    weight: float
    """What it weighs in sampling now."""
    vector: npt.NDArray[np.float32] | None = None
    """The vector it is found by; not always read."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An experience that is ready to be appended, but for its vector: see ``core.appending``."""

    client_id: str | None
    payload: bytes
    visual: bytes | None
    """Little-endian float32 of the right length; not looked into yet."""
    text: bytes | None
    priority: float

    def fingerprint(self) -> bytes:
        """Return a digest of the content, which tells a retry from another experience under the same client_id."""
        if self.client_id is None:
            return b""
        digest = hashlib.blake2b(self.payload[:_HASHED_BYTES], digest_size=_FINGERPRINT_BYTES)
        for part in (self.payload[_HASHED_BYTES:], _VISUAL, self.visual or b"", _TEXT, self.text or b""):
            for start in range(0, len(part), _HASHED_BYTES):
                digest.update(part[start : start + _HASHED_BYTES])
        return digest.digest()


_decode_content = msgspec.msgpack.Decoder(Content).decode


def prepare_experience(given: Experience, settings: Settings) -> Prepared:
    """Check all of an experience but what its vectors hold; raises InvalidRequestError naming the field."""
    if given.client_id is not None and not 1 <= len(given.client_id) <= CLIENT_ID_CHARACTERS_MAX:
        raise InvalidRequestError(f"client_id must have 1 to {CLIENT_ID_CHARACTERS_MAX} characters")
    if not 0.0 <= given.confidence <= 1.0:
        raise InvalidRequestError(f"confidence is {given.confidence}, it must be from 0 to 1")
    dimension = settings.embedding.dimension
    visual = None if given.visual is None else to_float32(given.visual, dimension, "visual")
    text = None if given.text is None else to_float32(given.text, dimension, "text")
    if visual is None and text is None:
        raise InvalidRequestError("give visual, text or both: an experience is found by its vector")
    payload = _encode(given, settings.server.payload_bytes_max)
    priority = initial_priority(given.confidence, _total_reward(given), settings.sampling)
    return Prepared(given.client_id, payload, visual, text, priority)


def decode_content(payload: bytes) -> Content:
    """Parse a payload that prepare_experience made."""
    return _decode_content(payload)


def _encode(given: Experience, payload_bytes_max: int) -> bytes:
    content = Content(
        confidence=given.confidence,
        question=given.question,
        answer=given.answer,
        image_uri=given.image_uri,
        trajectory=given.trajectory,
        rewards=given.rewards,
        reward=given.reward,
        metadata=given.metadata,
    )
    try:
        payload = msgspec.msgpack.encode(content)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequestError(f"the experience cannot be encoded: {error}") from error
    if len(payload) > payload_bytes_max:
        raise InvalidRequestError(
            f"the experience takes {len(payload)} bytes without its vectors, at most {payload_bytes_max} are accepted; "
            "store large parts elsewhere and refer to them by image_uri or metadata"
        )
    return payload


def _total_reward(given: Experience) -> float:
    rewards = given.rewards or []
    total = (
        given.reward
        if given.reward is not None
        else math.fsum(rewards)
        if all(map(math.isfinite, rewards))
        else math.nan
    )
    if not math.isfinite(total):
        raise InvalidRequestError("reward and rewards must be finite numbers")
    return total
