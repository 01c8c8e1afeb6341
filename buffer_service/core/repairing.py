"""Repairing a buffer's folder: the store first, then what is made of it and can be made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from buffer_service.contract import names
from buffer_service.contract.generation import generation_name
from buffer_service.core.verification import damaged_generations, export_problem
from buffer_service.index.files import sync_folder
from buffer_service.index.generations import unfinished_builds
from buffer_service.storage.repair import repaired_store


def repair(folder: Path) -> list[str]:
    """Do what is safe and return a sentence for each thing done; ``folder`` is a buffer's, or a store alone.

    Raises what ``repaired_store`` raises, nothing having been changed. A rebuild must not be running elsewhere.
    """
    if not (folder / names.STORE_FOLDER).is_dir():
        with repaired_store(folder) as done:
            return done
    with repaired_store(folder / names.STORE_FOLDER) as done:
        indexes, export = folder / names.INDEXES_FOLDER, folder / names.EXPORT_FOLDER
        return [*done, *_repair_indexes(indexes), *_repair_export(export)]


def _repair_indexes(indexes: Path) -> Iterator[str]:
    for generation, problem in damaged_generations(indexes):
        _remove(indexes / generation_name(generation))
        yield f"{problem}; removed, it will be built anew"
    for build in unfinished_builds(indexes):
        _remove(build)
        yield f"{build}: removed, it was never finished"


def _repair_export(export: Path) -> Iterator[str]:
    problem = export_problem(export)
    if problem:
        _remove(export)
        yield f"{problem}; removed, the next export writes it anew"


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)
    sync_folder(folder.parent)
