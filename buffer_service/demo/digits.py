"""The input: 1,797 scanned handwritten digits of 8x8 pixels, which come with scikit-learn, in a fixed random order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

DIMENSION = 64
LABELS = 10
_SEED = 20
_BRIGHTEST = 16.0


@dataclass(frozen=True, slots=True)
class Digit:
    """One image and what it shows."""

    pixels: npt.NDArray[np.float32]
    """64 values in [0, 1]: the visual vector."""
    label: int


@cache
def digit_stream() -> Sequence[Digit]:
    """Return all digits in the order in which they stream in."""
    data = load_digits()
    order = np.random.default_rng(_SEED).permutation(len(data.target))
    pixels = (data.data / _BRIGHTEST).astype(np.float32)
    return [Digit(pixels[place], int(data.target[place])) for place in order]
