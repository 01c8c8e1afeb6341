"""Which type of index ``auto`` is."""

from __future__ import annotations

import pytest

from buffer_service.index.choice import choose


@pytest.mark.parametrize(
    ("rows", "churn", "device", "expected"),
    [
        (10, 1.0, "cpu", "flat"),
        (20_000, 1.0, "cpu", "flat"),
        (20_001, 1.0, "cpu", "ivf"),
        (100_000, 1.0, "gpu", "flat"),
        (1_000_000, 1.0, "gpu", "ivf"),
        (1_000_000, 0.001, "cpu", "hnsw"),
        (1_000_000, 0.5, "cpu", "ivf"),
    ],
)
def test_auto_goes_by_size_churn_and_device(rows: int, churn: float, device: str, expected: str) -> None:
    """And names the numbers that it went by."""
    choice = choose("auto", rows, churn, device)

    assert choice.index_type == expected
    assert str(rows) in choice.reason


def test_what_is_asked_for_is_built_where_there_are_rows_enough() -> None:
    """A type that has to be trained is not built from a handful of rows."""
    assert choose("hnsw", 1000, 1.0, "cpu").index_type == "hnsw"
    assert choose("ivf", 38, 1.0, "cpu").index_type == "flat"
    assert choose("flat", 10**7, 1.0, "cpu").index_type == "flat"
