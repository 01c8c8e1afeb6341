"""Pointing back to an earlier generation that is still on disk."""

from __future__ import annotations

from pathlib import Path

from buffer_service.contract.pointer import Pointer, successor
from buffer_service.errors import ConflictError
from buffer_service.index.errors import PointerConflictError, RefusedGenerationError
from buffer_service.index.generations import generations_in, read_manifest
from buffer_service.index.pointer_store import FolderPointer


def roll_back(pointers: FolderPointer, indexes: Path, served: int, wanted: int | None, *, now_s: float) -> Pointer:
    """Point to the generation that is wanted, else the newest before the one served; returns the new pointer.

    Raises ConflictError where it is not there, or somebody else moved the pointer meanwhile.
    """
    earlier = [number for number in generations_in(indexes) if number < served]
    if wanted is None and not earlier:
        raise ConflictError(f"there is no generation before {served} to go back to")
    target = earlier[-1] if wanted is None else wanted
    try:
        manifest, digest = read_manifest(indexes, target)
        current = pointers.read()
        replacement = successor(
            current,
            generation=target,
            watermark=manifest.watermark,
            manifest_sha256=digest,
            reason="rollback",
            now=now_s,
        )
        pointers.swap(current, replacement)
    except (RefusedGenerationError, PointerConflictError) as error:
        raise ConflictError(str(error)) from error
    return replacement
