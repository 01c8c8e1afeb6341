"""Modes, filters and normalisers of draws: exact probabilities, right frequencies, nothing that is not let through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.sampling_reference import DAY_S, chi_squared, probabilities, random_table
from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.drawing import MODES, Mode
from buffer_service.core.sampler import Drawn, Sampler
from buffer_service.core.sum_tree import Slots
from buffer_service.errors import InvalidRequestError
from buffer_service.index.view import Allowed
from buffer_service.settings import BufferSettings, EmbeddingSettings, RebuildSettings, SamplingSettings, Settings
from buffer_service.storage.rows import Row
from buffer_service.storage.table import Table

NOW_S = 7 * DAY_S
SETTINGS = SamplingSettings(uniform_share=0.1, recent_half_life_rows=20.0)
P_LEAST = 1e-4
"""The seeds are fixed; with others one run in ten thousand would be a false alarm."""


def _only(ids: list[int]) -> Allowed:
    mask = np.zeros(max(ids) - min(ids) + 1, bool)
    mask[np.array(ids) - min(ids)] = True
    return Allowed(min(ids), mask)


def _kept(table: Table, ids: list[int]) -> Table:
    kept = Table()
    for row in table.rows():
        if row.id in ids:
            kept.put(row)
    return kept


def _draw(sampler: Sampler, size: int, mode: Mode, allowed: Allowed | None = None) -> Drawn:
    return sampler.draw(size, 0.4, NOW_S, unique=False, mode=mode, allowed=allowed)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("among", [list(range(1, 101)), [7], [3, 50, 51, 99], list(range(2, 101, 3))])
def test_the_probability_is_that_of_the_restricted_distribution(mode: Mode, among: list[int]) -> None:
    """However few pass, probabilities are those of a table that holds nothing else, and so is its size."""
    table = random_table(100)

    drawn = _draw(Sampler(SETTINGS, table, 0.0), 64, mode, _only(among))

    expected = probabilities(_kept(table, among), SETTINGS, NOW_S, mode)
    assert drawn.table_size == len(among)
    assert set(drawn.ids.tolist()) <= set(among)
    np.testing.assert_allclose(
        drawn.probabilities, [expected[experience] for experience in drawn.ids.tolist()], rtol=1e-9
    )


@pytest.mark.parametrize("mode", MODES)
def test_probabilities_are_exact_in_every_mode(mode: Mode) -> None:
    """Without a filter, from the tree."""
    table = random_table(300)

    drawn = _draw(Sampler(SETTINGS, table, 0.0), 256, mode)

    expected = probabilities(table, SETTINGS, NOW_S, mode)
    assert drawn.table_size == 300
    np.testing.assert_allclose(
        drawn.probabilities, [expected[experience] for experience in drawn.ids.tolist()], rtol=1e-9
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("among", [list(range(1, 61)), list(range(1, 61, 3))])
def test_frequencies_pass_a_chi_squared_test_in_every_mode(mode: Mode, among: list[int]) -> None:
    """Single draws (so that strata do not flatter), of all and of some, come as often as their probability says."""
    table = random_table(60)
    sampler = Sampler(SETTINGS, table, 0.0)
    sampler.seed(7)
    allowed = None if len(among) == 60 else _only(among)

    counts = np.zeros(61, np.int64)
    for _ in range(5000):
        counts[_draw(sampler, 1, mode, allowed).ids[0]] += 1

    expected = probabilities(_kept(table, among), SETTINGS, NOW_S, mode)
    _, p = chi_squared(counts[among], np.array([expected[experience] for experience in among]))
    assert counts.sum() == counts[among].sum()
    assert p > P_LEAST


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_stratified(mode: Mode) -> None:
    """In a batch of k an experience comes k·P times, give or take less than 2, never at random."""
    table = random_table(50)
    expected = probabilities(table, SETTINGS, NOW_S, mode)

    for allowed in (None, _only(list(range(1, 51)))):
        drawn = _draw(Sampler(SETTINGS, table, 0.0), 1000, mode, allowed)
        counts = np.bincount(drawn.ids, minlength=51)
        assert all(abs(counts[row] - 1000 * expected[row]) < 2.0 for row in expected)


@pytest.mark.parametrize("mode", MODES)
def test_a_filter_that_nothing_passes_gives_an_empty_batch(mode: Mode) -> None:
    """As an empty table does; the size says that nothing could be drawn."""
    drawn = _draw(Sampler(SETTINGS, random_table(10), 0.0), 8, mode, Allowed(0, np.zeros(0, bool)))

    assert (len(drawn.ids), drawn.table_size) == (0, 0)


@pytest.mark.parametrize("mode", MODES)
def test_unique_draws_from_those_that_pass(mode: Mode) -> None:
    """All of them can be had, and one more is refused with their number."""
    sampler = Sampler(SETTINGS, random_table(100), 0.0)
    among = list(range(10, 20))

    drawn = sampler.draw(10, 0.4, NOW_S, unique=True, mode=mode, allowed=_only(among))

    assert sorted(drawn.ids.tolist()) == among
    with pytest.raises(InvalidRequestError, match="11 unique draws from 10"):
        sampler.draw(11, 0.4, NOW_S, unique=True, mode=mode, allowed=_only(among))


@pytest.mark.parametrize("seed", range(5))
def test_unique_draws_of_very_uneven_weights_end(seed: int) -> None:
    """Weights over 60 powers of two are drawn to the last, in a bounded number of rounds, and stay as they were."""
    table = random_table(600)
    sampler = Sampler(SamplingSettings(recent_half_life_rows=10.0), table, 0.0)
    sampler.seed(seed)

    drawn = sampler.draw(600, 0.4, NOW_S, unique=True, mode="recent")

    assert sorted(drawn.ids.tolist()) == list(range(1, 601))
    again = sampler.draw(600, 0.4, NOW_S, unique=False, mode="recent")
    expected = probabilities(table, SamplingSettings(recent_half_life_rows=10.0), NOW_S, "recent")
    np.testing.assert_allclose(again.probabilities, [expected[row] for row in again.ids.tolist()], rtol=1e-9)


def test_recency_is_exact_when_only_old_experiences_are_left() -> None:
    """When all newer ones are removed, the law goes on from the newest that is live."""
    settings = SamplingSettings(recent_half_life_rows=1.0)
    table = random_table(3000)
    sampler = Sampler(settings, table, 0.0)
    with table.lock:
        sampler.note([slot for row in range(5, 3001) if (slot := table.drop(row)) is not None])

    drawn = sampler.draw(64, 0.4, NOW_S, unique=False, mode="recent")

    expected = probabilities(table, settings, NOW_S, "recent")
    np.testing.assert_allclose(drawn.probabilities, [expected[row] for row in drawn.ids.tolist()], rtol=1e-9)


def test_recency_follows_any_number_of_appends() -> None:
    """The landmark of the order moves along; probabilities stay those of the law."""
    settings = SamplingSettings(recent_half_life_rows=2.0)
    table = Table()
    sampler = Sampler(settings, table, 0.0)
    for first in range(1, 4001, 100):
        with table.lock:
            for experience in range(first, first + 100):
                table.header.next_id = experience + 1
                sampler.note([table.put(Row(experience, experience, 0.0, 0.5, None, b""))])
                dropped = table.drop(experience - 20)
                sampler.note([] if dropped is None else [dropped])

    drawn = sampler.draw(64, 0.4, 0.0, unique=False, mode="recent")

    expected = probabilities(table, settings, 0.0, "recent")
    np.testing.assert_allclose(drawn.probabilities, [expected[row] for row in drawn.ids.tolist()], rtol=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("among", [None, list(range(30, 60))])
def test_floor_weights_do_not_depend_on_the_batch(mode: Mode, among: list[int] | None) -> None:
    """The same experience weighs the same in every batch, at most 1; batch weights are that times one factor."""
    sampler = Sampler(SETTINGS, random_table(100), 0.0)
    allowed = None if among is None else _only(among)
    weights: dict[int, float] = {}
    for size in (1, 5, 64):
        floor = sampler.draw(size, 0.5, NOW_S, unique=False, mode=mode, weight_norm="floor", allowed=allowed)
        assert floor.weights.max() <= 1.0
        for row, weight in zip(floor.ids.tolist(), floor.weights.tolist(), strict=True):
            assert weights.setdefault(row, weight) == pytest.approx(weight, rel=1e-9)
    products = floor.table_size * floor.probabilities * floor.weights**2
    np.testing.assert_allclose(products, products[0], rtol=1e-9)


def test_the_floor_is_reached_by_what_weighs_least() -> None:
    """A new experience of the lowest priority that never helped has weight 1, whatever else is in the batch."""
    table = Table()
    table.put(Row(1, 1, NOW_S, 0.01, None, b"", search_retrievals=10**12))
    table.put(Row(2, 2, NOW_S, 0.8, None, b""))
    sampler = Sampler(SamplingSettings(), table, 0.0)

    drawn = sampler.draw(2000, 1.0, NOW_S, unique=False, weight_norm="floor")

    weights = dict(zip(drawn.ids.tolist(), drawn.weights.tolist(), strict=True))
    assert weights[1] == pytest.approx(1.0)
    assert weights[2] == pytest.approx(0.7 * 0.01 / 0.8)


def test_what_leaves_between_filter_and_draw_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what has taken its slot meanwhile, which the filter never saw."""
    table = random_table(3)
    sampler = Sampler(SETTINGS, table, 0.0)
    find = Sampler._find

    def find_and_let_the_writer_run(self: Sampler, allowed: Allowed) -> tuple[Slots, Slots]:
        found = find(self, allowed)
        with table.lock:
            slot = table.drop(1)
            table.header.next_id = 5
            new = table.put(Row(4, 4, 0.0, 1000.0, None, b""))
            assert new == slot
            self.note([new])
        return found

    monkeypatch.setattr(Sampler, "_find", find_and_let_the_writer_run)

    drawn = _draw(sampler, 200, "prioritised", _only([1, 2]))

    assert (set(drawn.ids.tolist()), drawn.table_size) == ({2}, 1)


def test_filters_of_the_buffer_restrict_its_draws(tmp_path: Path) -> None:
    """Content and counters, among what is live; what cannot be understood is refused."""
    settings = Settings(
        embedding=EmbeddingSettings(dimension=2),
        rebuild=RebuildSettings(mode="off"),
        buffer=BufferSettings(capacity=20),
        sampling=SETTINGS,
    )
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        for number in range(1, 31):
            buffer.append([Experience(confidence=0.5, visual=[1.0, 0.0], metadata={"odd": number % 2 == 1})])
        odd = buffer.sample(300, wanted={"odd": True, "id": {"lte": 25}})
        buffer.remove(11)
        fewer = buffer.sample(300, wanted={"odd": True, "id": {"lte": 25}}, mode="uniform")

        assert (set(odd.ids.tolist()), odd.table_size) == (set(range(11, 26, 2)), 8)
        assert (set(fewer.ids.tolist()), fewer.table_size) == (set(range(13, 26, 2)), 7)
        assert buffer.sample(4, wanted={"odd": "neither"}).table_size == 0
        with pytest.raises(InvalidRequestError, match="mode is 'sideways'"):
            buffer.sample(4, mode="sideways")  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="weight_norm is 'most'"):
            buffer.sample(4, weight_norm="most")  # type: ignore[arg-type]
