"""xbuf verify: tells the state of a buffer's folder, read-only, and exits accordingly."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from buffer_client import BufferClient, Experience
from buffer_service.contract.generation import INDEX_FILE, generation_name
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service


def _verify(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "buffer_service.cli", "verify", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("backend", ["file", "lmdb"])
def test_a_sound_buffer_is_told_from_a_damaged_one(tmp_path: Path, backend: str) -> None:
    """Sound: 0, and nothing on disk changes. In use: 69. A damaged generation, then a damaged store: 65, by name."""
    folder = tmp_path / "data"
    with (
        running_service(folder, persistence__backend=backend, rebuild__every_operations=50) as service,
        BufferClient(service.url) as client,
    ):
        client.append([Experience(visual=row, confidence=0.5) for row in unit_vectors(60, 8)])
        wait_until(lambda: client.status().generation == 1, "the first generation")
        code, output = _verify(folder)
        assert (code, "in use" in output) == (69, True)

    before = _digests(folder)
    code, output = _verify(folder)
    assert (code, output) == (0, f"{folder}: sound\n")
    changed = {path for path, digest in _digests(folder).items() if before[path] != digest}
    assert {Path(path).name for path in changed} <= {"writer.lock"}

    index = folder / "indexes" / generation_name(1) / INDEX_FILE
    index.write_bytes(index.read_bytes()[:-1] + b"\x7f")
    code, output = _verify(folder)
    assert (code, generation_name(1) in output) == (65, True)

    store = max(
        (folder / "store").glob("*.log" if backend == "file" else "data.mdb"), key=lambda path: path.stat().st_size
    )
    content = bytearray(store.read_bytes())
    content[content.index(unit_vectors(60, 8)[30].tobytes())] ^= 0xFF
    store.write_bytes(content)
    code, output = _verify(folder)
    assert (code, "2 problems" in output or "checksum" in output) == (65, True)
