"""A read-only check of a buffer's folder: the store, every generation, the export, and whether they belong together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from buffer_service.contract import names
from buffer_service.index.errors import RefusedGenerationError, UnusableExportError
from buffer_service.index.export import EXPORT_MANIFEST, open_chunks, read_export
from buffer_service.index.generations import check_files, generations_in, read_manifest
from buffer_service.storage import verify as storage


def verify(folder: Path) -> list[str]:
    """Return a sentence for each problem, none for a sound buffer; raises StoreLockedError while it is open.

    ``folder`` is what ``xbuf serve --data`` was given, or a store alone.
    """
    if not (folder / names.STORE_FOLDER).is_dir():
        return storage.verify(folder)
    problems = storage.verify(folder / names.STORE_FOLDER)
    export = export_problem(folder / names.EXPORT_FOLDER)
    return [
        *problems,
        *(
            f"{sentence}; it will be refused and built anew"
            for _, sentence in damaged_generations(folder / names.INDEXES_FOLDER)
        ),
        *([f"{export}; the next export writes it anew"] if export else []),
    ]


def damaged_generations(indexes: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each damaged generation, and what is wrong with it."""
    for generation in generations_in(indexes):
        try:
            manifest, _ = read_manifest(indexes, generation)
            check_files(indexes, manifest)
        except RefusedGenerationError as error:
            yield generation, str(error)


def export_problem(export: Path) -> str:
    """Return what is wrong with the export, empty for a sound one and for none."""
    if (export / EXPORT_MANIFEST).exists():
        try:
            open_chunks(export, read_export(export))
        except UnusableExportError as error:
            return str(error)
    return ""
