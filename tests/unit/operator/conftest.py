"""A cluster in memory and an operator that visits it."""

from __future__ import annotations

import pytest

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ModelCluster


@pytest.fixture
def world() -> ModelCluster:
    """A cluster with one buffer, ``demo``."""
    cluster = ModelCluster()
    cluster.make_buffer()
    return cluster


@pytest.fixture
def operator(world: ModelCluster) -> Driver:
    """The operator of that cluster."""
    return Driver(world)
