"""A generation: one immutable FAISS index in a directory of its own, described by the manifest that is written last."""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

MANIFEST_FILE: Final = "manifest.json"
INDEX_FILE: Final = "index.faiss"
IDS_FILE: Final = "ids.npy"
CANARIES_FILE: Final = "canaries.npy"
VECTORS_FILE: Final = "vectors.npy"
"""The exact vectors by position, where the index itself does not hold them so."""
COARSE_FILE: Final = "coarse.faiss"
"""The centroids of the inverted lists, where the index has such."""
FORMAT_VERSION: Final = 2

_NAME = re.compile(r"gen-([0-9]{10})")


class InvalidManifestError(ValueError):
    """The bytes are not a manifest of this format; the message says why."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a generation holds and how it was checked. Fields are written once and never changed."""

    format_version: int
    generation: int
    watermark: int
    """Sequence number of the export it was built from."""
    last_id: int
    """Highest experience id that had been given out at the watermark: rows with a higher id belong to the delta."""
    count: int
    dimension: int
    metric: str
    index_type: str
    reason: str
    """Why it is of this type."""
    parameters: dict[str, int]
    """Found at build time: ``nprobe`` or ``ef`` to search with, ``reach_percent``, ``lists``, ``refine``."""
    files: dict[str, str]
    """File name to hex SHA-256."""
    size_bytes: int
    """Memory that serving it takes: all files but the exact vectors, of which only the pages in use are in memory."""
    faiss_version: str
    recall_at_10: float
    """Share of the true ten nearest that the index found on held-out queries."""
    canaries: list[int]
    """Ids whose own vectors, kept in ``canaries.npy``, must find them (or a row that is as near)."""
    built_at: float
    """Unix time in seconds."""
    build_s: float


def generation_name(generation: int) -> str:
    """Return the directory name of a generation."""
    return f"gen-{generation:010d}"


def parse_generation_name(name: str) -> int | None:
    """Return the number in a generation's directory name, None for any other name."""
    matched = _NAME.fullmatch(name)
    return int(matched.group(1)) if matched else None


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2)


def decode_manifest(data: bytes) -> Manifest:
    """Parse a manifest; raises InvalidManifestError for another format or version."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidManifestError(f"not a manifest: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise InvalidManifestError(
            f"format version {manifest.format_version}, this program reads version {FORMAT_VERSION}"
        )
    return manifest


def manifest_digest(data: bytes) -> str:
    """Return the hex SHA-256 that a pointer names the manifest by."""
    return hashlib.sha256(data).hexdigest()
