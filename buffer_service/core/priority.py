"""How much an experience weighs in prioritised draws.

    static    a = max(floor, c_w·(1 − confidence) + r_w·min(1, |total reward|)), or what a caller has set
    success   m = 0.7 + 0.3·(successes + κ)/(max(retrievals, successes) + κ),  κ = 2
    age       g = 1 − x when rising, x when fresh, with x = 2^(−age/half-life)
    weight    w = (m·(a + a_w·g))^α

m is 1 for what was never retrieved and falls smoothly towards 0.7 for what never helps (a Beta prior).

Time moves x alone, so where w is a sum of powers of x, time parts from the row: x^k = 2^(−k(t − L)/half-life) ·
2^(k(t_i − L)/half-life) for any landmark L. One sum for each power in every tree node then follows time with no leaf
rewritten (Cormode et al., "Forward decay", ICDE 2009). For α = 0, 1, 2, 3, 4 w is such a sum. For any other α no finite
number of sums gives Σw at every moment, so the weight that is drawn by, and whose probability is returned, is the sum
of six powers that equals w at six ages, none and infinite age among them. ``docs/ARCHITECTURE.md`` says how near it is.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from buffer_service.settings import SamplingSettings

_SUCCESS_SHARE = 0.3
_SUCCESS_PRIOR = 2.0
_POWERS = {"rising": np.array([0.0, 1.0, 2.0, 3.0, 6.0, 14.0]), "fresh": np.array([0.0, 1.0, 1.5, 2.0, 3.0, 4.0])}
"""Of x, where w is no polynomial in it; those that follow it best where a low priority is, when w changes most."""
_AT = {
    "rising": np.array([1.0, 0.9565, 0.8373, 0.5996, 0.2177, 0.0]),
    "fresh": np.array([1.0, 0.8602, 0.5296, 0.2031, 0.0295, 0.0]),
}
"""Values of x at which the sum of these powers equals w: those that keep the difference least between them."""
_STEEP = 50.0
"""Where the age term can raise a priority by more than this factor, two powers are used: more could dip below 0."""

Weights = npt.NDArray[np.float64]


def initial_priority(confidence: float, total_reward: float, settings: SamplingSettings) -> float:
    """Return the static part a of a new experience."""
    uncertain = settings.confidence_weight * (1.0 - confidence)
    rewarded = settings.reward_weight * min(1.0, abs(total_reward))
    return max(settings.priority_floor, uncertain + rewarded)


def clipped_priority(priority: float, settings: SamplingSettings) -> float:
    """Return a priority given by a caller, within floor and maximum."""
    return min(settings.priority_max, max(settings.priority_floor, priority))


def success_multiplier(successes: Weights | np.float64, retrievals: Weights | np.float64) -> Weights:
    """Return m for arrays of counters."""
    tries = np.maximum(retrievals, successes)
    multiplier: Weights = (1.0 - _SUCCESS_SHARE) + _SUCCESS_SHARE * (successes + _SUCCESS_PRIOR) / (
        tries + _SUCCESS_PRIOR
    )
    return multiplier


class Weighing:
    """Splits weights into sums that stay and factors that move with time: w(t) = Σ parts·factors(t).

    ``landmark_s`` is the Unix time that the parts are relative to; it has to be moved (``needs_rebase``) before the
    exponents leave the range of float64.
    """

    EXPONENT_MAX = 600.0

    def __init__(self, settings: SamplingSettings, landmark_s: float) -> None:
        self._settings = settings
        self._rate = math.log(2.0) / settings.age_half_life_s
        self._alpha = settings.alpha
        self._is_exact, self._powers, at = _powers(settings)
        self._through = np.linalg.inv(at[:, None] ** self._powers)
        self._ages = settings.age_weight * ((1.0 - at) if settings.age_mode == "rising" else at)
        self.landmark_s = landmark_s
        self.least = ((1.0 - _SUCCESS_SHARE) * settings.priority_floor) ** self._alpha
        """No experience weighs less, at whatever age."""

    @property
    def parts(self) -> int:
        """Number of parts that a weight is split into."""
        return len(self._powers)

    def split(self, priority: Weights, multiplier: Weights, created_at: Weights) -> Weights:
        """Return the parts, (parts, n), for arrays of static priorities, multipliers and Unix times in seconds."""
        parts: Weights = self._summands(priority, multiplier)
        parts *= np.exp(self._rate * self._powers[:, None] * (created_at - self.landmark_s))
        return parts

    def factors(self, now_s: float) -> Weights:
        """Return what the parts are multiplied by at this time."""
        factors: Weights = np.exp(-self._rate * (now_s - self.landmark_s) * self._powers)
        return factors

    def needs_rebase(self, now_s: float) -> bool:
        """Tell whether the landmark is too far back."""
        return self._rate * (now_s - self.landmark_s) * float(self._powers[-1]) > self.EXPONENT_MAX

    def _summands(self, priority: Weights, multiplier: Weights) -> Weights:
        """Return what the powers of x are multiplied by, (parts, n)."""
        priority = np.maximum(priority, self._settings.priority_floor)
        values = (priority + self._ages[:, None]) ** self._alpha
        summands = self._through @ values
        steep = priority * _STEEP < self._settings.age_weight
        if not self._is_exact and steep.any():
            summands[:2, steep] = values[-1, steep], values[0, steep] - values[-1, steep]
            summands[2:, steep] = 0.0
        summands *= multiplier**self._alpha
        return summands


def _powers(settings: SamplingSettings) -> tuple[bool, Weights, Weights]:
    """Return whether weights are a sum of powers of x, these powers, and as many values of x, from 1 down to 0."""
    if settings.alpha == 0.0 or settings.age_weight == 0.0:
        return True, np.zeros(1), np.zeros(1)
    if settings.alpha == int(settings.alpha):
        degree = int(settings.alpha)
        return True, np.arange(degree + 1.0), np.linspace(1.0, 0.0, degree + 1)
    return False, _POWERS[settings.age_mode], _AT[settings.age_mode]
