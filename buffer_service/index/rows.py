"""The live rows of an export, by position; the vectors stay in the mapped files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from buffer_service.index.files import Spread
from buffer_service.index.metric import Ids, Positions, Vectors

_BLOCK_ROWS = 8192


class Rows:
    """Rows in order of id."""

    def __init__(self, chunks: list[tuple[Ids, Vectors]], live: Ids, dimension: int) -> None:
        self.dimension = dimension
        self._chunks = [vectors for _, vectors in chunks]
        self._kept = [np.flatnonzero(np.isin(ids, live, assume_unique=True)) for ids, _ in chunks]
        kept_ids = [ids[kept] for (ids, _), kept in zip(chunks, self._kept, strict=True)]
        self.ids: Ids = np.concatenate(kept_ids) if kept_ids else np.zeros(0, np.int64)
        self._starts = np.cumsum([0, *(len(kept) for kept in self._kept)])

    @property
    def count(self) -> int:
        """Number of live rows."""
        return len(self.ids)

    def blocks(self) -> Iterator[Vectors]:
        """Yield all vectors in order of position, in blocks of bounded size."""
        for vectors, kept in zip(self._chunks, self._kept, strict=True):
            for start in range(0, len(kept), _BLOCK_ROWS):
                yield np.ascontiguousarray(vectors[kept[start : start + _BLOCK_ROWS]])

    def at(self, positions: Positions) -> Vectors:
        """Return the vectors at these positions as (n, dimension) float32."""
        result = np.empty((len(positions), self.dimension), np.float32)
        owner = np.searchsorted(self._starts, positions, side="right") - 1
        for chunk in np.unique(owner):
            mask = owner == chunk
            result[mask] = self._chunks[chunk][self._kept[chunk][positions[mask] - self._starts[chunk]]]
        return result

    def write(self, path: Path) -> Vectors:
        """Write all vectors to a file of numpy's format and return them, mapped."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.count, self.dimension)}
        with path.open("wb") as file:
            # Not through a map: on a full disk that ends the process.
            np.lib.format.write_array_header_1_0(file, header)
            spread = Spread(file)
            for block in self.blocks():
                spread.write(block.data)
        vectors: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        return vectors
