"""Searches among the experiences whose metadata match.

The search is repeated with more neighbours until k of them match or there are no more; so the number of results is
right however selective the filter is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from buffer_service.core.experience import decode_content
from buffer_service.index.metric import Ids, Vectors
from buffer_service.index.view import Found, View
from buffer_service.storage.base import Store

Filter = Mapping[str, Any]
"""Metadata key to the wanted value, or to a list of values of which one is wanted."""

_WIDENING = 4


def search_filtered(view: View, store: Store, queries: Vectors, k: int, wanted: Filter) -> Found:
    """Return the k nearest experiences of each query whose metadata match, all from one view."""
    rows = (len(view.main.ids) if view.main else 0) + view.delta_rows
    fetch = min(max(1, rows), _WIDENING * k)
    verdicts: dict[int, bool] = {}
    while True:
        found = view.search(queries, fetch)
        keep = _matching(store, found.ids, wanted, verdicts)
        if fetch >= rows or bool((keep.sum(axis=1) >= k).all()):
            return _first(found, keep, k)
        fetch = min(rows, _WIDENING * fetch)


def _matching(store: Store, ids: Ids, wanted: Filter, verdicts: dict[int, bool]) -> npt.NDArray[np.bool_]:
    unknown = [int(experience) for experience in np.unique(ids) if experience > 0 and int(experience) not in verdicts]
    for experience, payload in zip(unknown, store.payloads(unknown), strict=True):
        verdicts[experience] = payload is not None and _matches(decode_content(payload).metadata or {}, wanted)
    return np.array([[verdicts.get(int(experience), False) for experience in row] for row in ids], bool)


def _matches(metadata: Mapping[str, Any], wanted: Filter) -> bool:
    for key, value in wanted.items():
        if key not in metadata:
            return False
        if metadata[key] not in value if isinstance(value, list) else metadata[key] != value:
            return False
    return True


def _first(found: Found, keep: npt.NDArray[np.bool_], k: int) -> Found:
    ids = np.full((len(found.ids), k), -1, np.int64)
    scores = np.full((len(found.ids), k), -np.inf, np.float32)
    for row, mask in enumerate(keep):
        chosen = np.flatnonzero(mask)[:k]
        ids[row, : len(chosen)] = found.ids[row, chosen]
        scores[row, : len(chosen)] = found.scores[row, chosen]
    return Found(ids, scores, found.sequence, found.generation)
