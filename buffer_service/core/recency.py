"""How recency weighs in draws: 2^(−d/h), d the number of appends after an experience, h a number of rows.

Ids are given out in order, one for each append, so the weight is 2^((id − landmark)/h) for any landmark up to a factor
that is the same for all: an append changes no other weight. Not thread-safe; the sampler holds its lock.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_EXPONENT_MAX = 600.0


class Recency:
    """Weights relative to a landmark, an id that has to be moved before the exponent leaves the range of float64."""

    def __init__(self, half_life_rows: float, landmark: int) -> None:
        self._rate = math.log(2.0) / half_life_rows
        self.landmark = landmark

    def weights(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the weight of each id; 0 for those too far behind for float64."""
        weights: npt.NDArray[np.float64] = np.exp(self._rate * (ids - self.landmark))
        return weights

    def weight(self, experience: int) -> float:
        """Return the weight of one id."""
        return math.exp(self._rate * (experience - self.landmark))

    def needs_rebase(self, newest: int) -> bool:
        """Tell whether the landmark is too far back."""
        return self._rate * (newest - self.landmark) > _EXPONENT_MAX

    def rebase(self, newest: int) -> float:
        """Move the landmark, and return what the weights so far are to be multiplied by."""
        factor = math.exp(-self._rate * (newest - self.landmark))
        self.landmark = newest
        return factor
