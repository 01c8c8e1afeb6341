"""How much an experience weighs in sampling.

    static   a = max(floor, c_w·(1 − confidence) + r_w·min(1, |total reward|))
    success  m = 0.7 + 0.3·(successes + κ)/(max(retrievals, successes) + κ),  κ = 2
    age      g = 1 − 2^(−t/half-life) when rising, 2^(−t/half-life) when fresh
    weight   w = m·(a^α + a_w·g)

m is 1 for what was never retrieved and falls smoothly towards 0.7 for what never helps (a Beta prior). α bends the
static part; the age term is added to it, so that a weight is a sum of a constant and a multiple of 2^(−t/half-life):
two sums per tree node then follow time with no leaf rewritten (Cormode et al., "Forward decay", ICDE 2009).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from buffer_service.settings import SamplingSettings

_SUCCESS_SHARE = 0.3
_SUCCESS_PRIOR = 2.0

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
    """Splits weights into what stays and what moves with time: w(t) = steady + moving·factor(t).

    ``landmark_s`` is the Unix time that ``moving`` is relative to; it has to be moved (``rebased``) before the exponent
    leaves the range of float64.
    """

    EXPONENT_MAX = 600.0

    def __init__(self, settings: SamplingSettings, landmark_s: float) -> None:
        self._settings = settings
        self._rate = math.log(2.0) / settings.age_half_life_s
        self.landmark_s = landmark_s

    def split(self, priority: Weights, multiplier: Weights, created_at: Weights) -> tuple[Weights, Weights]:
        """Return steady and moving parts for arrays of static priorities, multipliers and Unix times in seconds."""
        age_weight = self._settings.age_weight
        grown = np.exp(self._rate * (created_at - self.landmark_s))
        bent = priority**self._settings.alpha
        if self._settings.age_mode == "rising":
            return multiplier * (bent + age_weight), -multiplier * age_weight * grown
        return multiplier * bent, multiplier * age_weight * grown

    def factor(self, now_s: float) -> float:
        """Return what the moving part is multiplied by at this time."""
        return math.exp(-self._rate * (now_s - self.landmark_s))

    def needs_rebase(self, now_s: float) -> bool:
        """Tell whether the landmark is too far back."""
        return self._rate * (now_s - self.landmark_s) > self.EXPONENT_MAX

    def effective_priority(self, priority: float, multiplier: float, age_s: float) -> float:
        """Return the weight of one experience at this age."""
        gone = math.exp(-self._rate * max(0.0, age_s))
        age = 1.0 - gone if self._settings.age_mode == "rising" else gone
        return float(multiplier * (priority**self._settings.alpha + self._settings.age_weight * age))
