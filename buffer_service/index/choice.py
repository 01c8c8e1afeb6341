"""Which type of index ``auto`` is, and the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass

FLAT_ROWS_MAX = {"cpu": 20_000, "gpu": 500_000}
"""Up to this many rows a scan of all is quick enough, and it is exact."""
HNSW_ROWS_MIN = 200_000
HNSW_CHURN_MAX = 0.02
"""A graph is worth its long build where it is rebuilt seldom."""
IVF_ROWS_MIN = 39
"""FAISS wants at least this many training rows for each list."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A type of index and why it is that."""

    index_type: str
    reason: str


def choose(requested: str, rows: int, churn: float, device: str) -> Choice:
    """Return the type to build.

    ``churn`` is the share of the rows that are newer than the generation before, 1 where there is none.
    """
    if rows < IVF_ROWS_MIN and requested != "flat":
        return Choice("flat", f"{rows} rows are too few for any other type")
    if requested != "auto":
        return Choice(requested, "asked for by index.type")
    flat_max = FLAT_ROWS_MAX[device]
    if rows <= flat_max:
        return Choice("flat", f"{rows} rows; on {device} a scan is used up to {flat_max}")
    size = f"{rows} rows are more than the {flat_max} that are scanned on {device}"
    if device == "cpu" and rows >= HNSW_ROWS_MIN and churn <= HNSW_CHURN_MAX:
        return Choice("hnsw", f"{size}; {churn:.1%} of them are new, so a graph lasts")
    return Choice("ivf", f"{size}; {churn:.1%} of them are new")
