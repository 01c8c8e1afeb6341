"""Real sockets: how many connections a client makes, and how long it waits for an answer that does not come."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from buffer_client import AsyncBufferClient, BufferClient, ClientError, Experience, OutcomeUnknownError
from buffer_client.errors import UnreachableError


@dataclass
class Seen:
    """What a server has seen."""

    url: str
    connections: set[tuple[str, int]] = field(default_factory=set)


@contextmanager
def answering_server() -> Iterator[Seen]:
    """Serve GET with an experience, keeping connections open as the service does."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # One packet, which is not held back for the acknowledgement of another.

        def do_GET(self) -> None:
            seen.connections.add(self.client_address)
            body = b'{"id": 1}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        seen = Seen(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def silent_url() -> Iterator[str]:
    """The address of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_calls_one_after_the_other_share_one_connection() -> None:
    """A connection costs more than an answer."""
    with answering_server() as seen, BufferClient(seen.url) as client:
        for _ in range(20):
            client.get(1)

        assert len(seen.connections) == 1


def test_threads_share_a_pool() -> None:
    """As many connections as calls at the same time, at most; none is made for each call."""
    with answering_server() as seen, BufferClient(seen.url) as client, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(client.get, [1] * 100))

        assert len(found) == 100
        assert 1 <= len(seen.connections) <= 4


async def test_the_async_client_keeps_its_connection_too() -> None:
    """One loop, one pool."""
    with answering_server() as seen:
        async with AsyncBufferClient(seen.url) as client:
            for _ in range(20):
                await client.get(1)

        assert len(seen.connections) == 1


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_the_timeout(silent_url: str) -> None:
    """A read has changed nothing; what became of a write is unknown."""
    started = time.monotonic()

    with BufferClient(silent_url, timeout_s=0.1, retries=0) as client:
        with pytest.raises(UnreachableError):
            client.get(1)
        with pytest.raises(OutcomeUnknownError):
            client.append(Experience(visual=[1.0], confidence=0.5))

    assert time.monotonic() - started < 5.0


def test_all_attempts_together_end_with_the_deadline(silent_url: str) -> None:
    """However many retries are left."""
    heard: list[ClientError] = []
    started = time.monotonic()

    with (
        BufferClient(silent_url, timeout_s=0.1, deadline_s=0.5, retries=1000, on_retry=heard.append) as client,
        pytest.raises(UnreachableError),
    ):
        client.get(1)

    assert time.monotonic() - started < 5.0
    assert heard
