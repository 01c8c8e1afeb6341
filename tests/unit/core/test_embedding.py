"""Vectors: mixed as configured, and nothing enters that could not be found again."""

from __future__ import annotations

import numpy as np
import pytest

from buffer_service.core.embedding import Given, fuse, raw_rows, to_vector
from buffer_service.errors import InvalidRequestError
from buffer_service.settings import EmbeddingSettings

_COSINE = EmbeddingSettings(dimension=3)
_EUCLIDEAN = EmbeddingSettings(dimension=3, metric="euclidean")
_VISUAL = np.array([1, 0, 0], np.float32)
_TEXT = np.array([0, 2, 0], np.float32)


def test_both_modalities_are_mixed_and_normalised() -> None:
    """0.7·visual + 0.3·text, of length one."""
    mixed = np.array([0.7, 0.6, 0.0]) / np.hypot(0.7, 0.6)

    np.testing.assert_allclose(fuse(_VISUAL, _TEXT, _COSINE), mixed, rtol=1e-6)


def test_the_modality_that_is_there_is_used() -> None:
    """One alone is not weakened by the other's absence."""
    np.testing.assert_allclose(fuse(None, _TEXT, _COSINE), [0, 1, 0])
    np.testing.assert_allclose(fuse(_VISUAL, None, _COSINE), [1, 0, 0])


def test_length_is_kept_under_the_euclidean_metric() -> None:
    """There it carries meaning."""
    np.testing.assert_allclose(fuse(None, _TEXT, _EUCLIDEAN), [0, 2, 0])


def test_neither_modality_is_refused() -> None:
    """An experience without a vector could never be found."""
    with pytest.raises(InvalidRequestError, match="visual, text or both"):
        fuse(None, None, _COSINE)


def test_modalities_that_cancel_out_are_refused() -> None:
    """The sum is what is searched for, so it must not be zero."""
    with pytest.raises(InvalidRequestError, match="zero vector"):
        fuse(np.array([3, 0, 0], np.float32), np.array([-7, 0, 0], np.float32), _COSINE)


@pytest.mark.parametrize(
    "given",
    [[1.0, 2.0], [1.0, 2.0, float("nan")], [1.0, 2.0, float("inf")], [1.0, 2.0, 3.5e38], b"\0" * 11, [], b""],
    ids=["short", "nan", "infinity", "beyond float32", "odd bytes", "empty", "no bytes"],
)
def test_bad_vectors_are_refused_by_field(given: Given) -> None:
    """The sentence names the field."""
    with pytest.raises(InvalidRequestError, match="visual"):
        to_vector(given, 3, "visual")


def test_bytes_and_numbers_are_the_same_vector() -> None:
    """Little-endian float32 is the compact form of the list."""
    np.testing.assert_array_equal(
        to_vector(np.array([1, 2, 3], "<f4").tobytes(), 3, "visual"), to_vector([1.0, 2.0, 3.0], 3, "visual")
    )


def test_a_raw_body_must_hold_whole_rows() -> None:
    """A cut body is not searched for."""
    assert raw_rows(np.ones((2, 3), "<f4").tobytes(), 3).shape == (2, 3)
    with pytest.raises(InvalidRequestError, match="multiple of 12"):
        raw_rows(b"\0" * 13, 3)
