"""Passing over rows that a view does not see: fetch more than k, twice as many each time, until k are left."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from buffer_service.index.metric import Positions

_SPARE_MIN = 8

Mask = npt.NDArray[np.bool_]


def visible(
    search: Callable[[int], Positions],
    hidden: Callable[[Positions], Mask | None],
    k: int,
    rows: int,
    share: float,
) -> Positions:
    """Return (n, m) positions, -1 where a row is hidden or missing, k visible ones where ``search`` has that many.

    ``search`` returns the given number of positions for each query, -1 where it has no more; ``hidden`` those that are
    to be passed over, None where no row is hidden. ``share`` of the ``rows`` rows are about visible; that only saves
    the second try.
    """
    wanted = min(k, rows)
    fetch = wanted if share >= 1.0 else int(wanted / max(share, 1 / max(1, rows))) + _SPARE_MIN
    fetch = max(1, min(rows, fetch))
    while True:
        positions = search(fetch)
        barred = hidden(positions)
        if barred is None:
            return positions
        gone = (positions < 0) | barred
        complete = (fetch - gone.sum(axis=1) >= wanted) | (positions[:, -1] < 0)
        if fetch >= rows or bool(np.all(complete)):
            return np.where(gone, -1, positions)
        fetch = min(rows, 2 * fetch)
