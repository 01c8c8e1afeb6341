"""What draws must do, worked out directly and slowly from the documented formulas; nothing of the product's sampling.

The tests and ``benchmarks.sampling_report`` compare the product with it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from buffer_service.settings import SamplingSettings
from buffer_service.storage.rows import Row
from buffer_service.storage.table import Table

DAY_S = 86_400.0
POWERS = {"rising": (0, 1, 2, 3, 6, 14), "fresh": (0, 1, 1.5, 2, 3, 4)}
POINTS = {"rising": (1, 0.9565, 0.8373, 0.5996, 0.2177, 0), "fresh": (1, 0.8602, 0.5296, 0.2031, 0.0295, 0)}
"""For α that is not whole: the weight is the sum of these powers of 2^(−age/half-life) exact at these points."""

Numbers = npt.NDArray[np.float64]


def random_row(random: np.random.Generator, experience: int, created_at: float) -> Row:
    """Return a row with a priority, retrievals and successes of every kind."""
    retrievals = int(random.integers(0, 20))
    return Row(
        id=experience,
        version=experience,
        created_at=created_at,
        priority=float(random.uniform(0.01, 0.8)),
        client_id=None,
        fingerprint=b"",
        search_retrievals=retrievals,
        successes=int(random.integers(0, retrievals + 1)),
    )


def random_table(count: int, *, seed: int = 0, span_s: float = 7 * DAY_S) -> Table:
    """Return a table of rows 1 to ``count`` that came, in order, within ``span_s`` from time 0 on."""
    random = np.random.default_rng(seed)
    table = Table()
    for experience, created_at in enumerate(np.sort(random.uniform(0.0, span_s, count)).tolist(), start=1):
        table.put(random_row(random, experience, created_at))
        table.header.next_id = experience + 1
    return table


def priority_weight(row: Row, settings: SamplingSettings, now_s: float) -> float:
    """Return (m·(a + a_w·g))^α."""
    gone = 0.5 ** ((now_s - row.created_at) / settings.age_half_life_s)
    return _at(row, settings, gone)


def drawn_weight(row: Row, settings: SamplingSettings, now_s: float) -> float:
    """Return what a row is drawn by: the same for α = 0, 1, 2, 3, 4, else the sum of six powers that is nearly that."""
    if settings.alpha == int(settings.alpha):
        return priority_weight(row, settings, now_s)
    points, powers = np.array(POINTS[settings.age_mode]), np.array(POWERS[settings.age_mode])
    exact = np.array([_at(row, settings, point) for point in points])
    gone = 0.5 ** ((now_s - row.created_at) / settings.age_half_life_s)
    return float(gone**powers @ np.linalg.solve(points[:, None] ** powers, exact))


def probabilities(
    table: Table, settings: SamplingSettings, now_s: float, mode: str = "prioritised"
) -> dict[int, float]:
    """Return the probability of each live id."""
    rows = list(table.rows())
    newest = max(row.id for row in rows)
    if mode == "uniform":
        weights = [1.0 for _ in rows]
    elif mode == "recent":
        weights = [2.0 ** (-(newest - row.id) / settings.recent_half_life_rows) for row in rows]
    else:
        weights = [drawn_weight(row, settings, now_s) for row in rows]
    total = math.fsum(weights)
    share = settings.uniform_share if mode == "prioritised" else 0.0
    each = share / len(rows)
    return {row.id: (1.0 - share) * weight / total + each for row, weight in zip(rows, weights, strict=True)}


def chi_squared(counts: npt.NDArray[np.int64], expected_probabilities: Numbers) -> tuple[float, float]:
    """Return the statistic and its p-value (Wilson and Hilferty's approximation) for counts of single draws."""
    expected = counts.sum() * expected_probabilities
    statistic = float(((counts - expected) ** 2 / expected).sum())
    spread = 2.0 / (9.0 * (len(counts) - 1))
    deviation = ((statistic / (len(counts) - 1)) ** (1.0 / 3.0) - (1.0 - spread)) / math.sqrt(spread)
    return statistic, 0.5 * math.erfc(deviation / math.sqrt(2.0))


def _at(row: Row, settings: SamplingSettings, gone: float) -> float:
    success = 0.7 + 0.3 * (row.successes + 2) / (max(row.search_retrievals, row.successes) + 2)
    age = 1.0 - gone if settings.age_mode == "rising" else gone
    return float((success * (row.priority + settings.age_weight * age)) ** settings.alpha)
