"""A generation is on stable storage, all of it, before the pointer moves: read off a real rebuild's system calls."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from buffer_service.contract.generation import generation_name
from buffer_service.contract.names import POINTER_KEY
from buffer_service.contract.pointer import INITIAL
from buffer_service.index.pointer_store import FolderPointer
from tests.helpers.generations import export
from tests.helpers.vectors import unit_vectors

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

_SYNC = re.compile(r"f(?:data)?sync\(\d+<(?P<path>[^>]+)>\) += 0")
_RENAME = re.compile(r'rename\("(?P<source>[^"]+)", "(?P<path>[^"]+)"\) += 0')


def _calls(trace: str) -> list[tuple[str, Path, Path | None]]:
    """Return the successful syncs and renames in order: kind, path, and the source of a rename."""
    calls: list[tuple[str, Path, Path | None]] = []
    for line in trace.splitlines():
        if found := _SYNC.search(line):
            calls.append(("sync", Path(found["path"]), None))
        elif found := _RENAME.search(line):
            calls.append(("rename", Path(found["path"]), Path(found["source"])))
    return calls


def _rebuild_under_strace(folder: Path) -> list[tuple[str, Path, Path | None]]:
    trace = folder / "trace"
    done = subprocess.run(
        ["strace", "-ff", "-y", "-qq", "-o", trace, "-e", "trace=fsync,fdatasync,rename", sys.executable, "-m",
         "buffer_service.cli", "rebuild", "--export", folder / "export", "--indexes", folder / "indexes",
         "--generation", "1", "--pointer-dir", folder / "pointer"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # One file for each thread, so that no line is broken by another thread's; one thread does all of it.
    (calls,) = [found for path in folder.glob("trace.*") if (found := _calls(path.read_text()))]
    return calls


def test_everything_is_synced_before_the_name_that_leads_to_it(tmp_path: Path) -> None:
    """Files, then their folder's name, then the folder's parent, then the pointer's content, then the pointer."""
    folder = tmp_path.resolve()
    export(folder / "export", dict(enumerate(unit_vectors(50, 8), start=1)), watermark=50)

    calls = _rebuild_under_strace(folder)

    generation = folder / "indexes" / generation_name(1)
    (published,) = [place for place, call in enumerate(calls) if call[:2] == ("rename", generation)]
    (flipped,) = [place for place, call in enumerate(calls) if call[:2] == ("rename", folder / "pointer" / POINTER_KEY)]
    building, pointer_draft = calls[published][2], calls[flipped][2]
    synced = {path: place for place, (kind, path, _) in enumerate(calls) if kind == "sync"}
    # The manifest is synced under the temporary name that it was written to.
    manifest_drafts = [source for kind, path, source in calls if kind == "rename" and path.name == "manifest.json"]
    assert building is not None
    files = [building / path.name for path in generation.iterdir() if path.name != "manifest.json"]
    assert len(files) >= 3
    for path in [*files, *manifest_drafts, building]:
        assert path is not None
        assert synced.get(path, len(calls)) < published, (
            f"{path.name} was not synced before its generation got its name"
        )
    assert published < synced.get(generation.parent, -1) < flipped
    assert pointer_draft is not None
    assert synced.get(pointer_draft, len(calls)) < flipped
    assert any(kind == "sync" and path == folder / "pointer" for kind, path, _ in calls[flipped:])
    assert FolderPointer(folder / "pointer").read() != INITIAL
