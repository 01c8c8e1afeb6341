"""Making a store from a backup, in a folder of its own. Any one thread."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from buffer_service.errors import CorruptStoreError, UnusableBackupError
from buffer_service.storage import lmdb_backup
from buffer_service.storage.adapters import open_store
from buffer_service.storage.backup import BackupManifest, read_backup
from buffer_service.storage.fs import RealFileSystem
from buffer_service.storage.log_cut import cut
from buffer_service.storage.snapshot import read_snapshot, snapshot_name, snapshot_sequences
from buffer_service.storage.verify import verify


@dataclass(frozen=True, slots=True)
class Restored:
    """What a store was made from a backup with."""

    sequence: int
    count: int
    """Live experiences."""


def restore_store(archive: BinaryIO, folder: Path, sequence: int | None = None) -> Restored:
    """Make a store in ``folder``, which must not exist, as it was at ``sequence``, by default that of the backup.

    Durable but for the name of the folder. An lmdb backup takes twice its size on disk meanwhile. After an error the
    folder is to be removed. Raises UnusableBackupError, CorruptStoreError or OSError.
    """
    folder.mkdir(mode=0o750)
    parts = folder / "parts"
    parts.mkdir()
    manifest = read_backup(archive, parts)
    wanted = manifest.sequence if sequence is None else sequence
    if manifest.backend == "lmdb":
        if wanted != manifest.sequence:
            raise UnusableBackupError(
                f"a backup of the lmdb backend has no log: only its own sequence {manifest.sequence} can be restored"
            )
        lmdb_backup.build(parts, folder)
    else:
        for path in parts.iterdir():
            path.rename(folder / path.name)
        _drop_damaged_snapshots(folder)
        cut(folder, wanted, manifest.sequence)
    shutil.rmtree(parts)
    RealFileSystem().sync_folder(folder)
    return _checked(folder, manifest, wanted)


def _drop_damaged_snapshots(folder: Path) -> None:
    """Damaged before they were copied; the check tells whether the log is enough without them."""
    system = RealFileSystem()
    for sequence in snapshot_sequences(system.names(folder)):
        path = folder / snapshot_name(sequence)
        try:
            read_snapshot(system.open_to_read(path), path)
        except CorruptStoreError:
            system.remove(path)


def _checked(folder: Path, manifest: BackupManifest, sequence: int) -> Restored:
    problems = verify(folder)
    if problems:
        raise UnusableBackupError(f"the store was damaged when the backup was made: {problems[0]}; use an earlier one")
    store = open_store(manifest.backend, folder, manifest.shape, 0)
    try:
        found = Restored(store.table.header.sequence, len(store.table))
    finally:
        store.close()
    if found.sequence != sequence or (sequence == manifest.sequence and found.count != manifest.count):
        raise UnusableBackupError(
            f"the backup's files lead to sequence {found.sequence} and {found.count} experiences, not to "
            f"{sequence} and {manifest.count}; use another one"
        )
    return found
