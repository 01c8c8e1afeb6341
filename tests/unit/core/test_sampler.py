"""Prioritised draws: the right frequencies, probabilities and weights, at every moment."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.priority import initial_priority
from buffer_service.core.sampler import Sampler
from buffer_service.errors import InvalidRequestError
from buffer_service.settings import (
    EmbeddingSettings,
    RebuildSettings,
    SamplingSettings,
    Settings,
)
from buffer_service.storage.group import Group
from buffer_service.storage.table import Row, Table

DAY_S = 86_400.0
CHI_SQUARED_Z_MAX = 4.0
"""Standard deviations by which a chi-squared statistic may exceed its mean: a false alarm in 30,000 runs."""


def _table(count: int, seed: int = 0) -> Table:
    random = np.random.default_rng(seed)
    table = Table()
    for experience in range(1, count + 1):
        retrievals = int(random.integers(0, 20))
        table.put(
            Row(
                id=experience,
                version=experience,
                created_at=float(random.uniform(0, 7 * DAY_S)),
                priority=float(random.uniform(0.01, 0.8)),
                client_id=None,
                fingerprint=b"",
                search_retrievals=retrievals,
                successes=int(random.integers(0, retrievals + 1)),
            )
        )
    return table


def _expected(table: Table, settings: SamplingSettings, now_s: float) -> dict[int, float]:
    """The formula of core.priority, written out for each row."""
    weights = {}
    for row in table.rows():
        success = 0.7 + 0.3 * (row.successes + 2) / (max(row.search_retrievals, row.successes) + 2)
        gone = 0.5 ** ((now_s - row.created_at) / settings.age_half_life_s)
        age = 1 - gone if settings.age_mode == "rising" else gone
        weights[row.id] = success * (row.priority**settings.alpha + settings.age_weight * age)
    total = sum(weights.values())
    share = settings.uniform_share
    return {row: (1 - share) * weight / total + share / len(weights) for row, weight in weights.items()}


@pytest.mark.parametrize("mode", ["rising", "fresh"])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("days", [7, 30, 3650])
def test_probabilities_follow_time_exactly(mode: str, alpha: float, days: int) -> None:
    """With no leaf rewritten, probabilities equal the formula to 1e-9, also after years and rebasing."""
    settings = SamplingSettings(age_mode=mode, alpha=alpha, uniform_share=0.1, age_half_life_s=DAY_S)  # type: ignore[arg-type]
    table = _table(300)
    sampler = Sampler(settings, table, 0.0)

    drawn = sampler.draw(256, 0.4, days * DAY_S, unique=False)

    expected = _expected(table, settings, days * DAY_S)
    np.testing.assert_allclose(
        drawn.probabilities, [expected[experience] for experience in drawn.ids.tolist()], rtol=1e-9
    )


def _chi_squared_z(counts: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> float:
    expected = counts.sum() * probabilities
    statistic = float(((counts - expected) ** 2 / expected).sum())
    degrees = len(counts) - 1
    return (statistic - degrees) / np.sqrt(2 * degrees)


def test_frequencies_pass_a_chi_squared_test() -> None:
    """Single draws (so that strata do not flatter) come as often as their probability says."""
    settings = SamplingSettings()
    table = _table(200)
    sampler = Sampler(settings, table, 0.0)
    sampler._random = np.random.default_rng(7)

    counts = np.zeros(200, np.int64)
    for _ in range(20_000):
        counts[sampler.draw(1, 0.4, 7 * DAY_S, unique=False).ids[0] - 1] += 1

    expected = _expected(table, settings, 7 * DAY_S)
    assert _chi_squared_z(counts, np.array([expected[row] for row in range(1, 201)])) < CHI_SQUARED_Z_MAX


def test_importance_weights_undo_the_probabilities() -> None:
    """N·P·w^(1/beta) is one constant over the batch, and the largest weight is 1."""
    sampler = Sampler(SamplingSettings(), _table(100), 0.0)

    drawn = sampler.draw(64, 0.5, 7 * DAY_S, unique=False)

    products = 100 * drawn.probabilities * drawn.weights**2
    np.testing.assert_allclose(products, products[0], rtol=1e-9)
    assert drawn.weights.max() == 1.0
    assert drawn.table_size == 100


def test_unique_draws_are_unique_and_leave_the_tree_as_it_was() -> None:
    """All rows can be drawn once; afterwards probabilities are as before."""
    sampler = Sampler(SamplingSettings(), _table(50), 0.0)
    before = sampler._tree.totals()

    drawn = sampler.draw(50, 0.4, 7 * DAY_S, unique=True)

    assert sorted(drawn.ids.tolist()) == list(range(1, 51))
    np.testing.assert_allclose(sampler._tree.totals(), before, rtol=1e-12)


def test_more_unique_draws_than_experiences_are_refused() -> None:
    """The message tells how many there are."""
    sampler = Sampler(SamplingSettings(), _table(5), 0.0)

    with pytest.raises(InvalidRequestError, match="6 unique draws from 5"):
        sampler.draw(6, 0.4, 7 * DAY_S, unique=True)


def test_a_dropped_row_is_never_drawn() -> None:
    """Evicted and removed rows weigh nothing."""
    table = _table(20)
    sampler = Sampler(SamplingSettings(), table, 0.0)
    slots = [slot for experience in range(1, 20) if (slot := table.drop(experience)) is not None]
    sampler.note(slots)

    assert set(sampler.draw(100, 0.4, 7 * DAY_S, unique=False).ids.tolist()) == {20}


def test_an_empty_table_gives_an_empty_batch() -> None:
    """No error: a trainer may start before the first experience."""
    drawn = Sampler(SamplingSettings(), Table(), 0.0).draw(8, 0.4, 1.0, unique=False)

    assert (len(drawn.ids), drawn.table_size) == (0, 0)


@pytest.mark.parametrize(
    ("confidence", "reward", "expected"),
    [(0.0, 1.0, 0.8), (1.0, 0.0, 0.01), (0.5, -0.5, 0.4), (0.9, 7.0, 0.44), (0.99, 0.0, 0.01)],
)
def test_initial_priority_is_the_formula(confidence: float, reward: float, expected: float) -> None:
    """0.4·(1 − confidence) + 0.4·min(1, |reward|), at least 0.01; the age term is 0 at first."""
    assert initial_priority(confidence, reward, SamplingSettings()) == pytest.approx(expected)


def test_a_clock_that_is_set_back_makes_no_weight_negative() -> None:
    """Draws go on as at the latest time that was seen."""
    table = _table(50)
    sampler = Sampler(SamplingSettings(), table, 0.0)

    drawn = sampler.draw(200, 0.4, -365 * DAY_S, unique=False)

    latest = float(table.created_at.max())
    expected = _expected(table, SamplingSettings(), latest)
    np.testing.assert_allclose(drawn.probabilities, [expected[row] for row in drawn.ids.tolist()], rtol=1e-9)


def test_a_new_experience_weighs_its_initial_priority() -> None:
    """Age is 0 at first, so rising age adds nothing yet."""
    table = Table()
    table.put(Row(1, 1, 1000.0, 0.3, None, b""))
    sampler = Sampler(SamplingSettings(), table, 0.0)
    row = table.row(1)

    assert row is not None
    assert sampler.weight_of(row, 1000.0) == pytest.approx(0.3)


def test_a_draw_in_the_midst_of_a_removal_sees_only_live_experiences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table and tree change together: a draw that comes between the two waits."""
    settings = Settings(embedding=EmbeddingSettings(dimension=2), rebuild=RebuildSettings(mode="off"))
    drawn: list[int] = []
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        buffer.append([Experience(confidence=0.5, visual=[1.0, 0.0]), Experience(confidence=0.5, visual=[0.0, 1.0])])
        drawer = threading.Thread(target=lambda: drawn.extend(buffer.sample(64).ids.tolist()))
        publish = Group.publish

        def publish_and_let_others_run(group: Group) -> list[str]:
            forgotten = publish(group)
            drawer.start()
            drawer.join(timeout=0.2)
            return forgotten

        monkeypatch.setattr(Group, "publish", publish_and_let_others_run)
        buffer.remove(1)
        drawer.join()

    assert set(drawn) == {2}
