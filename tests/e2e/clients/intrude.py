"""Tries, in the place of a rebuild, what a rebuild must not be able to do. The result names what was possible."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from buffer_service.contract import names


def write_export() -> None:
    """Write where the service exports to."""
    (Path("/export") / "intruder").write_text("")


def change_export() -> None:
    """Change a file that was exported."""
    with next(path for path in Path("/export").rglob("*") if path.is_file()).open("ab") as file:
        file.write(b"\0")


def read_store() -> None:
    """Reach the store itself."""
    (Path(names.DATA_PATH) / names.STORE_FOLDER).stat()


def write_root() -> None:
    """Write into the image."""
    (Path("/opt") / "intruder").write_text("")


def possible(attempt: Callable[[], None]) -> bool:
    """Return whether the attempt succeeded."""
    try:
        attempt()
    except (OSError, StopIteration):
        return False
    return True


attempts = (write_export, change_export, read_store, write_root)
seen = sorted(path.name for path in Path("/export").iterdir())
result = {"possible": [attempt.__name__ for attempt in attempts if possible(attempt)], "export": seen}
sys.stdout.write(json.dumps(result) + "\n")
