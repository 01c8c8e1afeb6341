"""The export: vectors in immutable, checksummed chunk files, from which a rebuild reads without touching the store.

``manifest.json`` names the chunks and the live ids of one watermark and is replaced in one step, last. An export writes
only what is new since the one before. Chunks are merged like the digits of a binary counter (a chunk is taken into its
successor when it is not larger), and a chunk of which more than half is dead is written anew; so a row is rewritten a
logarithmic number of times, and an export holds at most twice the live rows. Files that it no longer needs are removed
by the next one, before that writes, so that a rebuild which has just read the manifest still finds them; so the folder
stays within three times the live rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_service.index.errors import UnusableExportError
from buffer_service.index.files import sha256_of, sync_file, write_atomically
from buffer_service.index.metric import Ids, Vectors

EXPORT_MANIFEST = "manifest.json"
_FORMAT_VERSION = 1
_ROWS_PER_READ = 256

ReadVectors = Callable[[Ids], tuple[Ids, Vectors]]
"""Reads vectors by id from the store: those that are live, in the given order."""


class Chunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rows of first_id..last_id that were live when it was written."""

    name: str
    first_id: int
    last_id: int
    rows: int
    ids_sha256: str
    vectors_sha256: str

    @property
    def files(self) -> tuple[str, str]:
        """Names of the id file (int64) and the vector file ((rows, dimension) float32)."""
        return f"{self.name}.ids.npy", f"{self.name}.vectors.npy"


class ExportManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One consistent copy of the live vectors at a watermark."""

    format_version: int
    watermark: int
    last_id: int
    dimension: int
    metric: str
    rows: int
    live_file: str
    live_sha256: str
    chunks: list[Chunk]
    superseded: list[str]
    """Files that this export no longer needs; the next one removes them."""


class ExportPoint(msgspec.Struct, frozen=True):
    """What an export is to hold: taken on the writer thread, so that it is one moment."""

    watermark: int
    last_id: int
    live: Ids
    """Live ids at the watermark, ascending."""


class Exporter:
    """Writes exports into a folder. One thread at a time."""

    def __init__(self, folder: Path, dimension: int, metric: str) -> None:
        self._folder = folder
        self._dimension = dimension
        self._metric = metric
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, point: ExportPoint, read: ReadVectors) -> ExportManifest:
        """Bring the folder to the point; durable on return. Raises OSError, and whatever ``read`` raises.

        What a failed export has written is removed: on a full disk it would take the room that the store needs.
        """
        try:
            return self._write(point, read)
        except BaseException:
            with contextlib.suppress(OSError):
                self._remove_all_but(self._files_of(self._previous()))
            raise

    def _write(self, point: ExportPoint, read: ReadVectors) -> ExportManifest:
        previous = self._previous()
        self._remove_all_but(self._files_of(previous))
        kept, first_new = self._reusable(previous, point)
        chunks = [*kept]
        new = point.live[point.live >= first_new]
        if len(new):
            chunks.append(self._write_chunk(first_new, point, new, read))
        live_file = f"live-{point.watermark:020d}.npy"
        _write_array(self._folder / live_file, point.live)
        used = {name for chunk in chunks for name in chunk.files} | {live_file, EXPORT_MANIFEST}
        manifest = ExportManifest(
            format_version=_FORMAT_VERSION,
            watermark=point.watermark,
            last_id=point.last_id,
            dimension=self._dimension,
            metric=self._metric,
            rows=len(point.live),
            live_file=live_file,
            live_sha256=sha256_of(self._folder / live_file),
            chunks=chunks,
            superseded=sorted(self._files_of(previous) - used),
        )
        write_atomically(self._folder / EXPORT_MANIFEST, msgspec.json.encode(manifest))
        return manifest

    def _previous(self) -> ExportManifest | None:
        try:
            manifest = read_export(self._folder)
        except UnusableExportError:
            return None
        fits = manifest.dimension == self._dimension and manifest.metric == self._metric
        return manifest if fits and self._files_of(manifest) <= _names(self._folder) else None

    def _reusable(self, previous: ExportManifest | None, point: ExportPoint) -> tuple[list[Chunk], int]:
        """Return the leading chunks that stay, and the first id that has to be written."""
        if previous is None or previous.watermark > point.watermark:
            return [], 1
        kept: list[Chunk] = []
        for chunk in previous.chunks:
            live = _live_between(point.live, chunk.first_id, chunk.last_id)
            if 2 * live < chunk.rows:
                break
            kept.append(chunk)
        first_new = kept[-1].last_id + 1 if kept else 1
        new_rows = len(point.live) - int(np.searchsorted(point.live, first_new))
        while kept and new_rows > 0 and kept[-1].rows <= new_rows:
            taken = kept.pop()
            first_new = taken.first_id
            new_rows = len(point.live) - int(np.searchsorted(point.live, first_new))
        return kept, first_new

    def _write_chunk(self, first: int, point: ExportPoint, wanted: Ids, read: ReadVectors) -> Chunk:
        name = f"chunk-{first:016d}-{point.last_id:016d}-{point.watermark:020d}"
        chunk = Chunk(name, first, point.last_id, len(wanted), "", "")
        ids_file, vectors_file = (self._folder / file for file in chunk.files)
        found: list[Ids] = []
        with vectors_file.open("wb") as file:
            _write_header(file, len(wanted), self._dimension)
            for start in range(0, len(wanted), _ROWS_PER_READ):
                ids, vectors = read(wanted[start : start + _ROWS_PER_READ])
                found.append(ids)
                file.write(vectors.data)
            rows = sum(map(len, found))
            file.seek(0)
            _write_header(file, rows, self._dimension)  # fewer than wanted where some have left meanwhile
        sync_file(vectors_file)
        _write_array(ids_file, np.concatenate(found))
        chunk = msgspec.structs.replace(chunk, rows=rows)
        return msgspec.structs.replace(chunk, ids_sha256=sha256_of(ids_file), vectors_sha256=sha256_of(vectors_file))

    @staticmethod
    def _files_of(manifest: ExportManifest | None) -> set[str]:
        if manifest is None:
            return set()
        return {name for chunk in manifest.chunks for name in chunk.files} | {manifest.live_file}

    def _remove_all_but(self, used: set[str]) -> None:
        for name in _names(self._folder) - used - {EXPORT_MANIFEST}:
            (self._folder / name).unlink(missing_ok=True)


def read_export(folder: Path) -> ExportManifest:
    """Return the manifest of the export in the folder; raises UnusableExportError when it is missing or damaged."""
    try:
        manifest = msgspec.json.decode((folder / EXPORT_MANIFEST).read_bytes(), type=ExportManifest)
    except FileNotFoundError as error:
        raise UnusableExportError(f"{folder} holds no export; call POST /v1/admin/export first") from error
    except msgspec.DecodeError as error:
        raise UnusableExportError(f"{folder / EXPORT_MANIFEST} is damaged: {error}") from error
    if manifest.format_version != _FORMAT_VERSION:
        raise UnusableExportError(f"export format {manifest.format_version}, this program reads {_FORMAT_VERSION}")
    return manifest


def open_chunks(folder: Path, manifest: ExportManifest) -> tuple[list[tuple[Ids, Vectors]], Ids]:
    """Return the chunks' ids and vectors, by mmap, and the live ids; every checksum was verified.

    Raises UnusableExportError naming the file that is missing, damaged or of another shape.
    """
    expected = {manifest.live_file: manifest.live_sha256}
    for chunk in manifest.chunks:
        expected |= dict(zip(chunk.files, (chunk.ids_sha256, chunk.vectors_sha256), strict=True))
    for name, digest in expected.items():
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise UnusableExportError(f"{name} of the export cannot be read: {error}") from error
        if found != digest:
            raise UnusableExportError(f"{name} of the export has SHA-256 {found}, its manifest says {digest}")
    arrays = [(_open_array(folder / ids), _open_array(folder / vectors)) for ids, vectors in _files(manifest.chunks)]
    return arrays, np.asarray(_open_array(folder / manifest.live_file))


def _files(chunks: Sequence[Chunk]) -> list[tuple[str, str]]:
    return [chunk.files for chunk in chunks]


def _open_array(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _write_array(path: Path, array: npt.NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    sync_file(path)


def _write_header(file: BinaryIO, rows: int, dimension: int) -> None:
    """Write the head of a .npy file of float32 vectors; its length does not depend on the number of rows."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    np.lib.format.write_array_header_1_0(file, header)


def _live_between(live: Ids, first: int, last: int) -> int:
    return int(np.searchsorted(live, last, side="right") - np.searchsorted(live, first))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}
