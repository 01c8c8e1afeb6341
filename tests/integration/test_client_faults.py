"""The client against services that crash, push back, ask for tokens or go back to an older index, one per test."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from buffer_client import BufferClient, ClientError, Experience, SampleStream
from buffer_client.errors import ForbiddenError, TooFewExperiencesError, TooLargeError, UnauthorizedError
from tests.helpers.vectors import Vectors, unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

DIMENSION = 8


def experience(vector: Vectors | list[float], answer: str | None = None) -> Experience:
    """Return an experience with a middling confidence."""
    return Experience(visual=vector, confidence=0.5, answer=answer)


def test_a_generation_can_be_rolled_back(tmp_path: Path) -> None:
    """The pointer goes back, nothing is lost from sight, and the export says how far it goes."""
    vectors = unit_vectors(60, DIMENSION, seed=12)
    with (
        running_service(tmp_path / "data", rebuild__every_operations=30) as service,
        BufferClient(service.url) as client,
    ):
        for generation in (1, 2):
            client.append([experience(vector) for vector in vectors[30 * (generation - 1) : 30 * generation]])
            wait_until(partial(_serves, client, generation), f"generation {generation} serves")

        pointer = client.rollback()

        assert pointer.generation == 1
        wait_until(partial(_serves, client, 1), "the older generation serves")
        np.testing.assert_array_equal(client.search(vectors, k=1).ids[:, 0], np.arange(1, 61))
        exported = client.write_export()
        assert (exported.rows, exported.watermark) == (60, client.status().sequence)


def _serves(client: BufferClient, generation: int) -> bool:
    return client.status().generation == generation


def test_a_buffer_with_too_little_in_it_says_so(tmp_path: Path) -> None:
    """By an error of its own, once the retries are used up; a stream of batches waits."""
    with (
        running_service(tmp_path / "data", sampling__min_size=5) as service,
        BufferClient(service.url, retries=0) as client,
        SampleStream(client, 3, batches=range(1)) as stream,
        ThreadPoolExecutor(1) as threads,
    ):
        client.append([experience(vector) for vector in unit_vectors(4, DIMENSION, seed=31)])
        with pytest.raises(TooFewExperiencesError):
            client.sample(3)
        batch = threads.submit(next, stream)
        client.append(experience(unit_vectors(1, DIMENSION, seed=32)[0]))

        assert len(batch.result(timeout=30)) == 3


def test_a_client_rides_out_a_crash(tmp_path: Path) -> None:
    """Killed and started again: what was acknowledged is there, and the append in between happens once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    vectors = unit_vectors(2, DIMENSION, seed=13)
    retried: list[ClientError] = []
    with BufferClient(f"http://127.0.0.1:{port}", retries=100, deadline_s=60.0, on_retry=retried.append) as client:
        with running_service(tmp_path / "data", port) as service:
            client.append(experience(vectors[0]))
            service.kill()
        with ThreadPoolExecutor(1) as threads:
            pending = threads.submit(client.append, experience(vectors[1]))
            wait_until(lambda: retried, "the client tries again")
            with running_service(tmp_path / "data", port):
                assert pending.result().ids.tolist() == [2]
                assert [item.id for item in client.experiences()] == [1, 2]


def test_tokens_open_what_their_scope_allows(tmp_path: Path) -> None:
    """None, a wrong one, one for reading, one for writing."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    for scope in ("read", "write"):
        (tokens / scope).write_text(f"{scope}-token")
    given = experience([1.0] * 8)

    with running_service(tmp_path / "data", auth__tokens_dir=tokens) as service:
        for token in (None, "wrong"):
            with BufferClient(service.url, token=token) as client, pytest.raises(UnauthorizedError):
                client.status()
        with BufferClient(service.url, token="read-token") as reader:  # noqa: S106 - of this test alone
            assert reader.status().size == 0
            with pytest.raises(ForbiddenError):
                reader.append(given)
        with BufferClient(service.url, token="write-token") as writer:  # noqa: S106 - of this test alone
            writer.append(given)
            with pytest.raises(ForbiddenError):
                writer.write_export()


def test_a_body_that_is_too_long_is_refused_by_name(tmp_path: Path) -> None:
    """The caller learns to send less at a time; the connection stays usable."""
    with (
        running_service(tmp_path / "data", server__body_bytes_max=4096) as service,
        BufferClient(service.url) as client,
    ):
        with pytest.raises(TooLargeError):
            client.append([experience([1.0] * 8, answer="x" * 400) for _ in range(20)])
        assert client.append(experience([1.0] * 8)).ids.tolist() == [1]


def test_a_full_delta_is_waited_out(tmp_path: Path) -> None:
    """429 with Retry-After until the rebuild has caught up; the caller sees only time pass."""
    vectors = unit_vectors(60, DIMENSION, seed=14)
    retried: list[ClientError] = []
    settings = {"index__delta_rows_max": 40, "rebuild__every_operations": 30}
    with (
        running_service(tmp_path / "data", **settings) as service,
        BufferClient(service.url, deadline_s=60.0, retries=50, on_retry=retried.append) as client,
    ):
        started = time.monotonic()
        for start in range(0, 60, 20):
            client.append([experience(vector) for vector in vectors[start : start + 20]])

        assert {error.code for error in retried} == {"backlog"}
        assert time.monotonic() - started >= 1.0
        assert client.status().size == 60
