"""Checks draws against their documented formulas and prints the figures.

Run: python -m benchmarks sampling_report
Frequencies: single draws, so that strata do not flatter, counted for each experience and put to a chi-squared test.
Age: six simulated weeks with appends, evictions, outcomes and new priorities every six hours, with no leaf rewritten
in between; after each step the probabilities of a batch are compared with the formulas.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table as Printed

from benchmarks.sampling_reference import DAY_S, chi_squared, priority_weight, probabilities, random_row, random_table
from buffer_service.core.drawing import MODES, Mode
from buffer_service.core.sampler import Sampler
from buffer_service.index.view import Allowed
from buffer_service.settings import SamplingSettings
from buffer_service.storage.rows import Row
from buffer_service.storage.table import Table

ROWS, DRAWS = 200, 20_000
P_LEAST = 1e-4
"""Each of the tests fails by chance once in ten thousand runs."""
AGE_ERROR_MAX = 1e-9
_NOW_S = 8 * DAY_S


@dataclass(frozen=True, slots=True)
class Frequencies:
    """The outcome of one chi-squared test."""

    law: str
    among: int
    statistic: float
    p: float


def frequencies(settings: SamplingSettings, mode: Mode, *, among: int = ROWS, seed: int = 0) -> Frequencies:
    """Draw one by one from rows of which every ``ROWS // among``-th is allowed, and test how often each came."""
    table = random_table(ROWS, seed=seed)
    sampler = Sampler(settings, table, 0.0)
    sampler.seed(seed)
    chosen = np.arange(1, ROWS + 1, ROWS // among)
    mask = np.zeros(ROWS, bool)
    mask[chosen - 1] = True
    allowed = None if among == ROWS else Allowed(1, mask)
    counts = np.zeros(ROWS, np.int64)
    for _ in range(DRAWS):
        counts[sampler.draw(1, 0.4, _NOW_S, unique=False, mode=mode, allowed=allowed).ids[0] - 1] += 1
    if counts[~mask].any():
        raise AssertionError("an experience was drawn that the filter does not let pass")
    kept = Table()
    for experience in chosen.tolist():
        row = table.row(experience)
        if row is not None:
            kept.put(row)
    expected = probabilities(kept, settings, _NOW_S, mode)
    statistic, p = chi_squared(counts[chosen - 1], np.array([expected[experience] for experience in chosen.tolist()]))
    details = {
        "prioritised": f"α {settings.alpha:g}, even {settings.uniform_share:g}",
        "uniform": "",
        "recent": f"half-life {settings.recent_half_life_rows:g}",
    }
    return Frequencies(f"{mode} {details[mode]}", among, statistic, p)


def age_errors(settings: SamplingSettings, *, weeks: int = 6, capacity: int = 500) -> tuple[float, float]:
    """Return the worst relative error of a returned probability, and of the drawn weight against the whole power."""
    random = np.random.default_rng(1)
    table = Table()
    sampler = Sampler(settings, table, 0.0)
    worst = bent = 0.0
    for step in range(weeks * 28):
        now_s = step * DAY_S / 4
        with table.lock:
            sampler.note(_live_on(table, random, now_s, capacity))
        drawn = sampler.draw(256, 0.4, now_s, unique=False)
        expected = probabilities(table, settings, now_s)
        returned = np.array([expected[experience] for experience in drawn.ids.tolist()])
        worst = max(worst, float(np.abs(drawn.probabilities / returned - 1.0).max()))
        powers = {row.id: priority_weight(row, settings, now_s) for row in table.rows()}
        ideal = np.array([powers[experience] for experience in drawn.ids.tolist()]) / sum(powers.values())
        bent = max(bent, float(np.abs(drawn.probabilities / ideal - 1.0).max()))
    return worst, bent


def _live_on(table: Table, random: np.random.Generator, now_s: float, capacity: int) -> list[int]:
    """Append, evict, change priorities and counters; return the slots."""
    changed = []
    for _ in range(40):
        experience = table.header.next_id
        table.header.next_id += 1
        changed.append(table.put(random_row(random, experience, now_s)))
        if len(table) > capacity:
            slot = table.drop(table.oldest_id())
            changed += [] if slot is None else [slot]
    for experience in random.choice(table.live_ids(), 20).tolist():
        row = table.row(experience)
        if row is not None:
            other: Row = random_row(random, experience, row.created_at)
            changed.append(table.put(other))
    return changed


def main() -> None:
    """Print both tables; exits with 1 where a bar is missed."""
    console = Console()
    printed = Printed("frequencies of", "of", "draws", "χ²", "degrees", "p", title="Single draws, chi-squared")
    mixed, bent = SamplingSettings(uniform_share=0.2), SamplingSettings(alpha=0.6)
    cases: list[tuple[SamplingSettings, Mode]] = [(SamplingSettings(), mode) for mode in MODES]
    cases = [*cases, (SamplingSettings(recent_half_life_rows=50.0), "recent"), (mixed, MODES[0]), (bent, MODES[0])]
    good = True
    for settings, mode in cases:
        for among in (ROWS, ROWS // 4):
            found = frequencies(settings, mode, among=among)
            good = good and found.p > P_LEAST
            figures = (f"{found.statistic:.1f}", f"{among - 1}", f"{found.p:.3f}")
            printed.add_row(found.law, f"{among} of {ROWS}", f"{DRAWS:,}", *figures)
    console.print(printed)
    printed = Printed("α", "age", "worst error", "against the whole power", title="Six weeks of age, relative errors")
    for alpha in (0.0, 0.6, 1.0, 1.5, 2.0):
        for age_mode in ("rising", "fresh"):
            worst, bent_by = age_errors(SamplingSettings(alpha=alpha, age_mode=age_mode))
            good = good and worst < AGE_ERROR_MAX
            printed.add_row(f"{alpha:g}", age_mode, f"{worst:.1e}", f"{bent_by:.1e}")
    console.print(printed)
    if not good:
        sys.exit("a check was missed")


if __name__ == "__main__":
    main()
