"""Vectors: checked, and mixed from the two modalities.

Every vector that enters is finite after the cast to float32 and not zero. Under the cosine metric it is normalised, so
that the inner product is the cosine; under the Euclidean metric its length carries meaning and stays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from buffer_service.errors import InvalidRequestError
from buffer_service.settings import EmbeddingSettings

Vectors = npt.NDArray[np.float32]
Given = list[float] | bytes
"""A vector as it arrives: numbers, or little-endian float32."""

Modality = tuple[Vectors, npt.NDArray[np.bool_]]
"""(n, dimension) rows of one modality, and which of them are there."""

_FLOAT32 = np.dtype("<f4")
_SQUARE_MIN = 1e-30
"""Below it the squares of float32 numbers lose their digits."""
_UNIT_TOLERANCE = 1e-6
"""Rows whose square is as near to one stay as they are: they have been normalised, and float32 knows no better."""
_CANCELLATION = 1e-6
"""Two modalities whose sum is smaller than this share of them cancel out: what is left is rounding error."""


def to_float32(given: Given, dimension: int, field: str) -> bytes:
    """Return one modality as little-endian float32; raises InvalidRequestError naming the field."""
    if isinstance(given, bytes):
        if len(given) != dimension * _FLOAT32.itemsize:
            raise InvalidRequestError(f"{field} has {len(given)} bytes, expected {dimension} little-endian float32")
        return given
    if len(given) != dimension:
        raise InvalidRequestError(f"{field} has {len(given)} numbers, this buffer's dimension is {dimension}")
    return _cast(np.asarray(given, np.float64), field).astype(_FLOAT32).tobytes()


def to_vector(given: Given, dimension: int, field: str) -> Vectors:
    """Return one modality as (dimension,) float32; raises InvalidRequestError naming the field."""
    return _cast(np.frombuffer(to_float32(given, dimension, field), _FLOAT32), field)


def raw_rows(data: bytes, dimension: int) -> Vectors:
    """Return the rows of a raw body as (n, dimension) float32, not yet checked; raises InvalidRequestError."""
    row_bytes = dimension * _FLOAT32.itemsize
    if not data or len(data) % row_bytes:
        raise InvalidRequestError(
            f"the body has {len(data)} bytes, not a multiple of {row_bytes}: {dimension} little-endian float32 a row"
        )
    return np.frombuffer(data, _FLOAT32).reshape(-1, dimension)


def fuse(visual: Vectors | None, text: Vectors | None, settings: EmbeddingSettings) -> Vectors:
    """Return visual_weight·visual + text_weight·text, or the one modality that is there, ready for the index."""
    if visual is not None and text is not None:
        field, mixed = "visual and text together", _mix(visual, text, settings)
    elif visual is not None:
        field, mixed = "visual", visual
    elif text is not None:
        field, mixed = "text", text
    else:
        raise InvalidRequestError("give visual, text or both: an experience is found by its vector")
    prepared: Vectors = prepare(mixed[None, :], settings, field)[0]
    return prepared


def mixed_rows(visual: Modality, text: Modality, settings: EmbeddingSettings) -> Vectors:
    """Return (n, dimension) float32 rows mixed as ``fuse`` does, neither checked nor normalised."""
    rows: Vectors = np.where(visual[1][:, None], visual[0], text[0])
    both = visual[1] & text[1]
    rows[both] = _mixed(visual[0][both], text[0][both], settings)
    return rows


def _mix(visual: Vectors, text: Vectors, settings: EmbeddingSettings) -> Vectors:
    return _cast(_mixed(visual[None, :], text[None, :], settings)[0], "visual and text together")


def _mixed(visual: Vectors, text: Vectors, settings: EmbeddingSettings) -> npt.NDArray[np.float64]:
    """Return the weighted sums of (n, dimension) rows; zero where the two cancel out."""
    parts = [settings.visual_weight * visual.astype(np.float64), settings.text_weight * text.astype(np.float64)]
    mixed: npt.NDArray[np.float64] = parts[0] + parts[1]
    lengths = [np.linalg.norm(rows, axis=1) for rows in (*parts, mixed)]
    mixed[lengths[2] <= _CANCELLATION * (lengths[0] + lengths[1])] = 0.0
    return mixed


def usual_rows(vectors: Vectors, settings: EmbeddingSettings) -> Vectors | None:
    """Return (n, dimension) float32 rows, n > 0, as the index wants them, None where float32 does not do for that.

    Then one of them is bad, or very short or long: ``prepare`` tells, at twice the time.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.vecdot(vectors, vectors)
    least, most = squares.min(), squares.max()
    if not (least > _SQUARE_MIN and most < np.inf):
        return None
    if settings.metric != "cosine" or (least > 1 - _UNIT_TOLERANCE and most < 1 + _UNIT_TOLERANCE):
        return vectors
    scaled: Vectors = vectors * (1.0 / np.sqrt(squares))[:, None]
    return scaled


def prepare(vectors: Vectors, settings: EmbeddingSettings, field: str) -> Vectors:
    """Return (n, dimension) float32 rows as the index wants them; raises InvalidRequestError for a bad row."""
    usual = usual_rows(vectors, settings) if len(vectors) else None
    if usual is not None:
        return np.ascontiguousarray(usual, dtype=np.float32)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise InvalidRequestError(f"{field} holds NaN or infinity")
    if not norms.all():
        raise InvalidRequestError(f"{field}: a zero vector has no direction and cannot be found")
    if settings.metric == "cosine":
        vectors = (vectors / norms).astype(np.float32)
    ready: Vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    return ready


def _cast(vector: npt.NDArray[np.float32] | npt.NDArray[np.float64], field: str) -> Vectors:
    with np.errstate(over="ignore"):
        cast = vector.astype(np.float32)
    if not np.isfinite(cast).all():
        raise InvalidRequestError(f"{field} holds NaN, infinity or a number beyond float32 (3.4e38)")
    return cast
