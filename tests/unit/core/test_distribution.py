"""Effective sample size and entropy of the draws."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from benchmarks.sampling_reference import DAY_S, probabilities, random_table
from buffer_service.core.distribution import Distribution, evenness
from buffer_service.core.sampler import Sampler
from buffer_service.settings import SamplingSettings
from buffer_service.storage.table import Table
from tests.helpers.waiting import wait_until

NOW_S = 7 * DAY_S


@pytest.mark.parametrize("settings", [SamplingSettings(), SamplingSettings(alpha=0.6, uniform_share=0.3)])
@pytest.mark.parametrize("count", [1, 300])
def test_both_are_those_of_the_distribution_that_is_drawn_from(settings: SamplingSettings, count: int) -> None:
    """1 / Σ P² and −Σ P ln P, the uniform share included."""
    table = random_table(count)

    found = evenness(Sampler(settings, table, 0.0), NOW_S)

    expected = np.array(list(probabilities(table, settings, NOW_S).values()))
    assert found is not None
    assert found.effective_size == pytest.approx(1.0 / (expected**2).sum())
    assert found.entropy_nats == pytest.approx(-(expected * np.log(expected)).sum(), abs=1e-9)


def test_uniform_draws_are_as_even_as_can_be() -> None:
    """The effective size is the number of experiences, the entropy its logarithm, over several pieces of slots."""
    count = 70_000
    table = Table()
    table.ids = np.arange(1, count + 1)
    for column in ("created_at", "priority"):
        setattr(table, column, np.full(count, 0.5))
    for column in ("search_retrievals", "successes"):
        setattr(table, column, np.zeros(count, np.int64))
    table.slots = {experience: experience - 1 for experience in range(1, count + 1)}
    table.header.next_id = count + 1

    found = evenness(Sampler(SamplingSettings(alpha=0.0), table, 0.0), NOW_S)

    assert found is not None
    assert found.effective_size == pytest.approx(count)
    assert found.entropy_nats == pytest.approx(math.log(count))


def test_an_empty_buffer_has_neither() -> None:
    """There is no distribution."""
    assert evenness(Sampler(SamplingSettings(), Table(), 0.0), NOW_S) is None


def test_the_latest_comes_from_aside() -> None:
    """The first who asks does not wait; soon after it is there."""
    distribution = Distribution(Sampler(SamplingSettings(), random_table(10), 0.0), time.time)
    try:
        wait_until(lambda: distribution.latest() is not None, "a measurement")
    finally:
        distribution.close()
