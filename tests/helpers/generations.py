"""Exports and generations made for tests, without a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from buffer_service.contract.pointer import Pointer
from buffer_service.index.export import Exporter, ExportManifest, ExportPoint
from buffer_service.index.metric import Ids, Vectors
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import RebuildRequest, rebuild


def export(
    folder: Path, rows: Mapping[int, Vectors], watermark: int, last_id: int | None = None, metric: str = "cosine"
) -> ExportManifest:
    """Export these rows by id."""
    live = np.array(sorted(rows), np.int64)
    dimension = len(next(iter(rows.values()))) if rows else 4

    def read(ids: Ids) -> tuple[Ids, Vectors]:
        return ids, np.stack([rows[int(experience)] for experience in ids])

    point = ExportPoint(watermark, max(rows, default=0) if last_id is None else last_id, live)
    return Exporter(folder, dimension, metric).write(point, read)


def request(folder: Path, generation: int, **changes: object) -> RebuildRequest:
    """Return a request to build in ``folder``, which holds export/ and indexes/."""
    fields: dict[str, object] = {
        "export": folder / "export",
        "indexes": folder / "indexes",
        "generation": generation,
        "index_type": "flat",
        "storage": "sq8",
        "device": "cpu",
        "build_on": "cpu",
        "n_probes": 4,
        "recall_floor": 0.9,
        "keep": 2,
        "threads": 1,
        "revision": None,
    }
    return RebuildRequest(**{**fields, **changes})  # type: ignore[arg-type] # checked by the tests that use it


def build(folder: Path, rows: Mapping[int, Vectors], generation: int, watermark: int, **changes: object) -> Pointer:
    """Export, build and flip the pointer in folder/pointer."""
    metric = str(changes.pop("metric", "cosine"))
    export(folder / "export", rows, watermark, metric=metric)
    return rebuild(request(folder, generation, **changes), FolderPointer(folder / "pointer"))
