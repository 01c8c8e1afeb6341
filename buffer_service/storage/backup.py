"""The backup format: a tar of a store's files, and last a manifest, so that a stream that was cut off is told by it.

The manifest says what was copied, at which sequence, and size and SHA-256 of every member; it carries a SHA-256 of its
own. Streaming both ways: neither end holds more than a part in memory, and nothing is copied aside. Any one thread.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import IO, BinaryIO, Literal

import msgspec

from buffer_service.errors import CorruptStoreError, UnusableBackupError
from buffer_service.storage.base import BackupSource, Shape

MANIFEST_NAME = "manifest.json"
_FORMAT_VERSION = 1
_MEMBER_NAME = re.compile(r"[a-z0-9-]+\.[a-z]+")
_BLOCK_BYTES = 512
_PART_BYTES = 1 << 20
_MANIFEST_BYTES_MAX = 64 << 20
_INCOMPLETE = "the backup is cut off or damaged"


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file."""

    name: str
    size_bytes: int
    sha256: str


class BackupManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a backup holds."""

    format_version: int
    backend: Literal["file", "lmdb"]
    dimension: int
    metric: str
    sequence: int
    """Every operation up to this one is in it, and none after it."""
    count: int
    """Live experiences."""
    members: list[Member]
    """In the order of the archive, without the manifest."""

    @property
    def shape(self) -> Shape:
        """What the store was made for."""
        return Shape(self.dimension, self.metric)


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    manifest: msgspec.Raw


def stream(source: BackupSource) -> Generator[bytes]:
    """Yield the archive, no part empty.

    Raises CorruptStoreError in the midst; what came until then is told from a backup.
    """
    members: list[Member] = []
    for file in source.files:
        yield _header(file.name, file.size_bytes)
        digest = hashlib.sha256()
        size = 0
        for part in file.parts:
            digest.update(part)
            size += len(part)
            yield part
        if size != file.size_bytes:
            raise CorruptStoreError(f"{file.name} ends after {size} of {file.size_bytes} bytes; restore a backup")
        if size % _BLOCK_BYTES:
            yield _padding(size)
        members.append(Member(file.name, size, digest.hexdigest()))
    data = _encode(source, members)
    yield _header(MANIFEST_NAME, len(data)) + data + _padding(len(data)) + bytes(2 * _BLOCK_BYTES)


def read_backup(archive: BinaryIO, folder: Path | None = None) -> BackupManifest:
    """Read a backup to its end and verify all of it; with a folder, its files are written there, durably.

    Raises UnusableBackupError when it is cut off, damaged, or no backup at all, and OSError.
    """
    found: list[Member] = []
    manifest: BackupManifest | None = None
    try:
        with tarfile.open(fileobj=archive, mode="r|") as opened:
            for info in opened:
                content = opened.extractfile(info) if info.isreg() else None
                if content is None or manifest is not None:
                    raise UnusableBackupError(f"this is no backup of a buffer: it holds {info.name!r}")
                if info.name == MANIFEST_NAME:
                    manifest = _decode(content.read(_MANIFEST_BYTES_MAX))
                else:
                    found.append(_take(info.name, content, folder))
    except (tarfile.TarError, EOFError, UnicodeError, ValueError) as error:
        raise UnusableBackupError(f"{_INCOMPLETE}: {error}; make a new one") from error
    if manifest is None:
        raise UnusableBackupError(f"{_INCOMPLETE}: it has no manifest; make a new one")
    if manifest.members != found:
        bad = next((ours.name for ours, theirs in zip(manifest.members, found, strict=False) if ours != theirs), "")
        raise UnusableBackupError(f"{_INCOMPLETE}: {bad or 'a member'} is not what the manifest says; use another one")
    return manifest


def _take(name: str, content: IO[bytes], folder: Path | None) -> Member:
    if not _MEMBER_NAME.fullmatch(name):
        raise UnusableBackupError(f"this is no backup of a buffer: it holds {name!r}")
    if folder is None:
        return _copied(name, content, None)
    try:
        target = (folder / name).open("xb")
    except FileExistsError:
        raise UnusableBackupError(f"this is no backup of a buffer: it holds {name!r} twice") from None
    with target:
        member = _copied(name, content, target)
        target.flush()
        os.fsync(target.fileno())
    return member


def _copied(name: str, content: IO[bytes], target: BinaryIO | None) -> Member:
    digest = hashlib.sha256()
    size = 0
    while part := content.read(_PART_BYTES):
        digest.update(part)
        size += len(part)
        if target is not None:
            target.write(part)
    return Member(name, size, digest.hexdigest())


def _encode(source: BackupSource, members: list[Member]) -> bytes:
    manifest = {
        "format_version": _FORMAT_VERSION,
        "backend": source.backend,
        "dimension": source.shape.dimension,
        "metric": source.shape.metric,
        "sequence": source.sequence,
        "count": source.count,
        "members": members,
    }
    data = msgspec.json.encode(manifest)
    return msgspec.json.encode(_Sealed(hashlib.sha256(data).hexdigest(), msgspec.Raw(data)))


def _decode(data: bytes) -> BackupManifest:
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        if hashlib.sha256(sealed.manifest).hexdigest() != sealed.sha256:
            raise UnusableBackupError(f"{_INCOMPLETE}: the checksum of its manifest does not hold; use another one")
        manifest = msgspec.json.decode(sealed.manifest, type=BackupManifest)
    except msgspec.DecodeError as error:
        raise UnusableBackupError(f"{_INCOMPLETE}: its manifest: {error}; use another one") from error
    if manifest.format_version != _FORMAT_VERSION:
        raise UnusableBackupError(
            f"the backup has format {manifest.format_version}; this program reads {_FORMAT_VERSION}"
        )
    return manifest


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o640
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK_BYTES)
