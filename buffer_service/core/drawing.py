"""Draws from weights, and the importance weights of what was drawn. Functions of arrays; no state, no locks."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from buffer_service.errors import InvalidRequestError

Mode = Literal["prioritised", "uniform", "recent"]
WeightNorm = Literal["batch", "floor"]
MODES: Final = ("prioritised", "uniform", "recent")
WEIGHT_NORMS: Final = ("batch", "floor")

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def strata(random: np.random.Generator, size: int) -> Numbers:
    """Return one point in each of ``size`` equal parts of [0, 1]."""
    points: Numbers = (np.arange(size) + random.random(size)) / size
    return points


def pick(random: np.random.Generator, weights: Numbers, size: int) -> Places:
    """Return ``size`` places, stratified, drawn in proportion to weights that are not all zero."""
    sums = np.cumsum(weights)
    points = np.minimum(strata(random, size) * sums[-1], np.nextafter(sums[-1], 0.0))
    places: Places = np.searchsorted(sums, points, side="right")
    return places


def pick_unique(random: np.random.Generator, weights: Numbers, size: int) -> Places:
    """Return ``size`` distinct places, each drawn in proportion to the weights of what was not drawn before.

    The least of exponential times with the weights as rates (Efraimidis and Spirakis, 2006). Raises
    InvalidRequestError where fewer places have weight.
    """
    places = np.flatnonzero(weights > 0.0)
    if len(places) < size:
        raise InvalidRequestError(f"{size} more unique draws from {len(places)} that can be drawn; ask for fewer")
    times = np.log(random.standard_exponential(len(places))) - np.log(weights[places])
    chosen: Places = places[np.argpartition(times, size - 1)[:size]]
    return chosen


def importance(probabilities: Numbers, beta: float, lowest: float) -> Numbers:
    """Return (N·P)^−β over what it is for the lowest probability; at most 1."""
    weights: Numbers = np.minimum(1.0, lowest / probabilities) ** beta
    return weights
