"""Making a buffer's folder from a backup: wholly or not at all.

The store alone is restored. The index is not in a backup: the buffer starts with everything in its delta and builds its
first generation anew.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from buffer_service.contract import names
from buffer_service.errors import FatalError, InvalidRequestError, UnusableBackupError
from buffer_service.index.files import sync_folder
from buffer_service.storage.lock import WriterLock
from buffer_service.storage.restore import Restored, restore_store

RESTORING_FOLDER = ".restoring"
_NOT_OURS = frozenset({RESTORING_FOLDER, "lost+found"})


def restore(archive: BinaryIO, folder: Path, sequence: int | None = None) -> Restored:
    """Make the buffer of ``xbuf serve --data folder``; durable on return, and after an error nothing is left.

    What a killed restore left in the folder is removed. Raises InvalidRequestError unless the folder is empty or
    missing, StoreLockedError while another restore is at it, and what ``restore_store`` raises.
    """
    _require_empty(folder)
    made = not folder.exists()
    building = folder / RESTORING_FOLDER
    building.mkdir(parents=True, exist_ok=True)
    lock = WriterLock.acquire(building)
    try:
        store = building / names.STORE_FOLDER
        shutil.rmtree(store, ignore_errors=True)
        restored = restore_store(archive, store, sequence)
        _require_empty(folder)
        store.rename(folder / names.STORE_FOLDER)
        sync_folder(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(building)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    finally:
        lock.release()
    shutil.rmtree(building)
    return restored


def verify_backup(path: Path) -> list[str]:
    """Return a sentence for each problem of a backup, none for one that can be restored: it is, in a temporary folder.

    Raises OSError, as when the temporary folder has no room for it.
    """
    with tempfile.TemporaryDirectory(prefix="xbuf-verify-") as scratch, path.open("rb") as archive:
        try:
            restore_store(archive, Path(scratch) / names.STORE_FOLDER)
        except (UnusableBackupError, FatalError) as error:
            return [str(error)]
    return []


def _require_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - _NOT_OURS):
        raise InvalidRequestError(f"{folder} is not empty; give a folder that is empty or does not exist")
