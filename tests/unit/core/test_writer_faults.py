"""An error on the writer thread after the commit: what was committed stays, no write follows, reads go on."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import numpy as np
import pytest

from buffer_service.api.app import Operations
from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.errors import OutcomeUnknownError
from buffer_service.settings import EmbeddingSettings, PersistenceSettings, RebuildSettings, Settings
from tests.helpers.vectors import unit_vectors

VECTORS = unit_vectors(8, 4)


def open_buffer(folder: Path, backend: str) -> ExperienceBuffer:
    """Open a buffer of four dimensions."""
    return ExperienceBuffer.open(
        folder,
        Settings(
            embedding=EmbeddingSettings(dimension=4),
            rebuild=RebuildSettings(mode="off"),
            persistence=PersistenceSettings(backend=backend),  # type: ignore[arg-type] # one of the two
        ),
    )


def experience(row: int) -> Experience:
    """Return an experience with a client id of its own."""
    return Experience(confidence=0.5, visual=VECTORS[row].tobytes(), client_id=f"client-{row}")


async def livez(buffer: ExperienceBuffer) -> int:
    """Return the status of the probe of life."""
    statuses: list[int] = []

    async def send(message: dict[str, object]) -> None:
        if "status" in message:
            statuses.append(int(str(message["status"])))

    await Operations(buffer)({"type": "http", "path": "/livez"}, None, send)  # type: ignore[arg-type] # it takes no body
    return statuses[0]


@pytest.mark.parametrize("backend", ["file", "lmdb"])
async def test_an_error_between_commit_and_answer_stops_writes_and_a_retry_is_answered_the_same(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write is in doubt for its caller; after the restart the same client_id gets the id that was committed."""
    with open_buffer(tmp_path, backend) as buffer:
        buffer.append([experience(0)])
        assert await livez(buffer) == HTTPStatus.OK

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(buffer.serving, "following", broken)
            with pytest.raises(OutcomeUnknownError, match="ZeroDivisionError"):
                buffer.append([experience(1)])
        with pytest.raises(OutcomeUnknownError, match="restarted"):
            buffer.append([experience(2)])
        assert await livez(buffer) == HTTPStatus.SERVICE_UNAVAILABLE
        assert not buffer.status().store.writable
        assert buffer.search(VECTORS[:1], 1).ids.tolist() == [[1]]
        assert len(buffer.sample(4).ids) == 4

    with open_buffer(tmp_path, backend) as buffer:
        assert buffer.append([experience(1)]).ids == [2]
        assert buffer.status().size == 2
        np.testing.assert_array_equal(buffer.search(VECTORS[:2], 1).ids[:, 0], [1, 2])
