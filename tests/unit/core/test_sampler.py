"""Prioritised draws: the right frequencies, probabilities and weights, at every moment."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from benchmarks.sampling_reference import DAY_S, probabilities, random_row, random_table
from benchmarks.sampling_report import age_errors
from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.priority import Weighing, initial_priority
from buffer_service.core.sampler import Sampler
from buffer_service.errors import InvalidRequestError
from buffer_service.settings import (
    EmbeddingSettings,
    RebuildSettings,
    SamplingSettings,
    Settings,
)
from buffer_service.storage.group import Group
from buffer_service.storage.rows import Row
from buffer_service.storage.table import Table


@pytest.mark.parametrize("age_mode", ["rising", "fresh"])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("days", [7, 30, 3650])
def test_probabilities_follow_time_exactly(age_mode: Literal["rising", "fresh"], alpha: float, days: int) -> None:
    """With no leaf rewritten, probabilities equal the formula to 1e-9, also after years and rebasing."""
    settings = SamplingSettings(age_mode=age_mode, alpha=alpha, uniform_share=0.1, age_half_life_s=DAY_S)
    table = random_table(300)
    sampler = Sampler(settings, table, 0.0)

    drawn = sampler.draw(256, 0.4, days * DAY_S, unique=False)

    expected = probabilities(table, settings, days * DAY_S)
    np.testing.assert_allclose(
        drawn.probabilities, [expected[experience] for experience in drawn.ids.tolist()], rtol=1e-9
    )


@pytest.mark.parametrize("age_mode", ["rising", "fresh"])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 1.5, 2.0])
def test_probabilities_hold_through_weeks_of_changes(age_mode: Literal["rising", "fresh"], alpha: float) -> None:
    """To 1e-9 while experiences come, go and change; alpha bends the whole weight, exactly or to a thousandth."""
    worst, bent = age_errors(SamplingSettings(alpha=alpha, age_mode=age_mode), weeks=2, capacity=200)

    assert worst < 1e-9
    assert bent < (1e-9 if alpha == int(alpha) else 2e-3)


def test_a_low_priority_rises_with_age_under_any_alpha() -> None:
    """Also where age can raise it a thousandfold the drawn weight rises from the one end to the other, never below."""
    settings = SamplingSettings(alpha=0.6, priority_floor=0.0001)
    weighing = Weighing(settings, 0.0)
    parts = weighing.split(np.array([0.0001]), np.array([1.0]), np.array([0.0]))
    weights = np.array([weighing.factors(hours * 3600.0) @ parts[:, 0] for hours in range(1000)])

    assert weights[0] == pytest.approx(0.0001**0.6)
    assert weights[-1] == pytest.approx(0.2001**0.6)
    assert (np.diff(weights) >= 0.0).all()


def test_an_append_after_many_half_lives_weighs_what_it_should() -> None:
    """The landmark is moved before the exponent of the newcomer leaves the range of numbers."""
    settings = SamplingSettings(age_half_life_s=1.0)
    table = random_table(10, span_s=10.0)
    sampler = Sampler(settings, table, 0.0)
    table.header.next_id = 12
    with table.lock:
        sampler.note([table.put(random_row(np.random.default_rng(1), 11, 50_000.0))])

    drawn = sampler.draw(64, 0.4, 50_001.0, unique=False)

    expected = probabilities(table, settings, 50_001.0)
    np.testing.assert_allclose(drawn.probabilities, [expected[row] for row in drawn.ids.tolist()], rtol=1e-9)


def test_importance_weights_undo_the_probabilities() -> None:
    """N·P·w^(1/beta) is one constant over the batch, and the largest weight is 1."""
    sampler = Sampler(SamplingSettings(), random_table(100), 0.0)

    drawn = sampler.draw(64, 0.5, 7 * DAY_S, unique=False)

    products = 100 * drawn.probabilities * drawn.weights**2
    np.testing.assert_allclose(products, products[0], rtol=1e-9)
    assert drawn.weights.max() == 1.0
    assert drawn.table_size == 100


def test_unique_draws_are_unique_and_leave_the_tree_as_it_was() -> None:
    """All rows can be drawn once; afterwards probabilities are as before."""
    sampler = Sampler(SamplingSettings(), random_table(50), 0.0)
    before = sampler.weights_between(0, 1024, 7 * DAY_S)

    drawn = sampler.draw(50, 0.4, 7 * DAY_S, unique=True)

    assert sorted(drawn.ids.tolist()) == list(range(1, 51))
    assert sampler.weights_between(0, 1024, 7 * DAY_S).tolist() == before.tolist()


def test_more_unique_draws_than_experiences_are_refused() -> None:
    """The message tells how many there are."""
    sampler = Sampler(SamplingSettings(), random_table(5), 0.0)

    with pytest.raises(InvalidRequestError, match="6 unique draws from 5"):
        sampler.draw(6, 0.4, 7 * DAY_S, unique=True)


def test_a_dropped_row_is_never_drawn() -> None:
    """Evicted and removed rows weigh nothing."""
    table = random_table(20)
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
    table = random_table(50)
    sampler = Sampler(SamplingSettings(), table, 0.0)

    drawn = sampler.draw(200, 0.4, -365 * DAY_S, unique=False)

    latest = float(table.created_at.max())
    expected = probabilities(table, SamplingSettings(), latest)
    np.testing.assert_allclose(drawn.probabilities, [expected[row] for row in drawn.ids.tolist()], rtol=1e-9)


def test_a_new_experience_weighs_its_initial_priority() -> None:
    """Age is 0 at first, so rising age adds nothing yet."""
    table = Table()
    table.put(Row(1, 1, 1000.0, 0.3, None, b""))

    assert Sampler(SamplingSettings(), table, 0.0).weights_between(0, 16, 1000.0)[0] == pytest.approx(0.3)


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
