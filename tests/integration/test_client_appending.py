"""Streams, background appenders and batches drawn ahead, against real services that are killed, filled and idle."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from buffer_client import (
    AsyncBackgroundAppender,
    AsyncBufferClient,
    BackgroundAppender,
    BufferClient,
    ClientError,
    Experience,
    IncompleteStreamError,
    LinearBeta,
    SampleStream,
    UpdateStatus,
)
from buffer_client.errors import TooLargeError
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

DIMENSION = 8


def experiences(count: int, seed: int = 0, question: str | None = None) -> list[Experience]:
    """Return experiences told apart by their answer."""
    vectors = unit_vectors(count, DIMENSION, seed)
    return [
        Experience(visual=vector, confidence=0.5, answer=str(place), question=question)
        for place, vector in enumerate(vectors)
    ]


def answers(client: BufferClient) -> list[str | None]:
    """Return the answers of all experiences in FIFO order."""
    return [item.answer for item in client.experiences(limit=1000)]


def test_a_stream_of_any_length_is_durable_and_found(tmp_path: Path) -> None:
    """More rows than one request may have, from a generator; the last is found by its vector at once."""
    given = experiences(5000)

    with running_service(tmp_path / "data") as service, BufferClient(service.url) as client:
        result = client.append_stream(item for item in given)

        assert result.ids.tolist() == list(range(1, 5001))
        assert client.status().size == 5000
        assert given[-1].visual is not None
        assert client.search(given[-1].visual, k=1).ids[0, 0] == 5000


def test_a_stream_that_is_refused_halfway_can_be_mended_and_gone_on_with(tmp_path: Path) -> None:
    """Longer experiences come, and the service takes shorter bodies than that; the caller makes the chunks smaller."""
    given = [*experiences(60), *experiences(60, seed=1, question="x" * 1000)]
    settings = {"server__body_bytes_max": 16_384}

    with running_service(tmp_path / "data", **settings) as service, BufferClient(service.url) as client:
        with pytest.raises(IncompleteStreamError) as caught:
            client.append_stream(given, chunk_rows=40)
        assert isinstance(caught.value.cause, TooLargeError)
        assert caught.value.acknowledged.ids.tolist() == list(range(1, 41))
        client.append_stream(given[40:], chunk_bytes=8192)

        assert answers(client) == [item.answer for item in given]


def test_nothing_is_lost_or_doubled_when_the_service_is_killed_under_an_appender(tmp_path: Path) -> None:
    """Killed twice in the middle of the stream; the appender's client rides it out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    retried: list[ClientError] = []
    given = experiences(3000)
    with (
        BufferClient(f"http://127.0.0.1:{port}", retries=1000, deadline_s=100.0, on_retry=retried.append) as client,
        BackgroundAppender(client, chunk_rows=50, rows_max=200) as appender,
    ):
        for part in range(3):
            with running_service(tmp_path / "data", port) as service:
                for item in given[1000 * part : 1000 * (part + 1)]:
                    appender.put(item)
                if part < 2:
                    service.kill()
                    before = len(retried)
                    wait_until(lambda before=before: len(retried) > before, "the appender notices")
                else:
                    appender.flush()
                    assert answers(client) == [item.answer for item in given]


async def test_the_async_appender_fills_a_real_buffer(tmp_path: Path) -> None:
    """In order, in few requests, found at once after the flush."""
    given = experiences(2000)

    with running_service(tmp_path / "data") as service:
        async with AsyncBufferClient(service.url) as client, AsyncBackgroundAppender(client) as appender:
            for item in given:
                await appender.put(item)
            await appender.flush()

            assert given[-1].visual is not None
            assert (await client.search(given[-1].visual, k=1)).ids[0, 0] == 2000
            assert [item.answer async for item in client.experiences(limit=1000)] == [item.answer for item in given]


def test_an_appender_that_nobody_closed_is_closed_at_the_end_of_the_process(tmp_path: Path) -> None:
    """What was put is not dropped with the interpreter."""
    program = (
        "import sys\n"
        "from buffer_client import BackgroundAppender, BufferClient, Experience\n"
        "appender = BackgroundAppender(BufferClient(sys.argv[1]))\n"
        "for n in range(500):\n"
        "    appender.put(Experience(visual=[1.0 + n] + [1.0] * 7, confidence=0.5))\n"
    )

    with running_service(tmp_path / "data") as service, BufferClient(service.url) as client:
        subprocess.run([sys.executable, "-c", program, service.url], check=True)

        assert client.status().size == 500


def test_batches_drawn_ahead_can_be_answered_with_priorities(tmp_path: Path) -> None:
    """The stream begins before the first experience; what was set makes the draws, weights shrink by their β."""
    with (
        running_service(tmp_path / "data") as service,
        BufferClient(service.url) as client,
        SampleStream(client, 64, batches=range(40), beta=LinearBeta(0.4, 1.0, 40), min_size=100) as stream,
    ):
        client.append_stream(experiences(100))
        seen: list[int] = []
        for number, batch in enumerate(stream):
            priorities = np.where(batch.ids == 7, 100.0, 0.01)
            statuses = client.update_priorities(batch.ids, priorities, batch.sequences)
            assert set(statuses) <= {UpdateStatus.APPLIED, UpdateStatus.STALE}
            assert batch.weights.max() == pytest.approx(1.0)
            if number >= 20:
                seen += batch.ids.tolist()

        assert number == 39
        assert seen.count(7) > len(seen) / 2
