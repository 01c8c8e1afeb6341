"""How full the volume is, as the status tells it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from buffer_service.contract.status import StoreHealth
from buffer_service.core import ExperienceBuffer
from buffer_service.observability.process import Room, room_of
from buffer_service.settings import EmbeddingSettings, IndexSettings, PersistenceSettings, RebuildSettings, Settings


@pytest.mark.parametrize("backend", ["file", "lmdb"])
def test_the_status_tells_the_room_on_the_volume(tmp_path: Path, backend: Literal["file", "lmdb"]) -> None:
    """Of the file system that the store is on, whatever else is on it."""
    settings = Settings(
        embedding=EmbeddingSettings(dimension=4),
        rebuild=RebuildSettings(mode="off"),
        index=IndexSettings(faiss_backend="cpu"),
        persistence=PersistenceSettings(backend=backend, map_size_bytes=1 << 24),
    )
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        store = buffer.status().store
    assert store.volume_size_bytes == shutil.disk_usage(tmp_path).total
    assert 0 < store.volume_free_bytes < store.volume_size_bytes


def test_a_folder_that_is_gone_has_no_room(tmp_path: Path) -> None:
    """The status is answered all the same."""
    assert room_of(tmp_path / "gone") == Room(0, 0)


def test_the_status_of_an_older_service_is_understood() -> None:
    """It does not tell the room: zero means that it is not known."""
    told = b'{"backend": "lmdb", "writable": true, "reason": "", "size_bytes": 5}'
    assert msgspec.json.decode(told, type=StoreHealth).volume_size_bytes == 0
