"""What both clients have in common: address, credentials, bounds, and the sequence for read-your-writes.

Safe for use from several threads: all is fixed at construction but the acknowledged sequence, which is guarded by a
lock.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO, TypeVar

import httpx

from buffer_client.errors import ClientError
from buffer_client.models import Experience
from buffer_client.retry import Answer, Failure, RetryPolicy, Send, Step, exchange
from buffer_client.wire import Call, Response

T = TypeVar("T")

_URLS_KEPT = 256
"""Parsed; parsing is a tenth of what a small request costs."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Endpoint:
    """One buffer service as a client sees it. ``url`` is that of the service's root."""

    def __init__(
        self, url: str, token: str | None, policy: RetryPolicy, on_retry: Callable[[ClientError], None] | None
    ) -> None:
        self.url = url.rstrip("/")
        self.policy = policy
        self.headers = {"user-agent": "experience-buffer-client"}
        if token:
            self.headers["authorization"] = f"Bearer {token}"
        self._on_retry = on_retry or _ignore
        self._url_of = lru_cache(_URLS_KEPT)(self._parsed)
        self._lock = Lock()
        self._sequence = 0

    @property
    def sequence(self) -> int:
        """Highest sequence that an append or a removal was acknowledged with; 0 before the first."""
        with self._lock:
            return self._sequence

    def acknowledge(self, sequence: int) -> None:
        """Remember a sequence that a write was acknowledged with."""
        with self._lock:
            self._sequence = max(self._sequence, sequence)

    def min_sequence(self, given: int | None) -> int:
        """Return what a search has to ask for: the caller's choice, else all that was acknowledged."""
        return self.sequence if given is None else given

    def steps(self, call: Call[T]) -> Generator[Step, Answer, T]:
        """Return the exchange of one call with the real clock."""
        return exchange(call, self.policy, time.monotonic, random.random, self._on_retry)

    def request(self, step: Send) -> httpx.Request:
        """Return what httpx has to send; the body is bytes, so that either client can send it."""
        request = step.request
        headers = {**self.headers, "accept": request.accept}
        if request.body:
            headers["content-type"] = request.content_type
        return httpx.Request(
            request.method,
            self._url_of(request.path, tuple(request.query.items())),
            headers=headers,
            content=request.body,
            extensions={"timeout": httpx.Timeout(step.timeout_s).as_dict()},
        )

    def _parsed(self, path: str, query: tuple[tuple[str, str], ...]) -> httpx.URL:
        return httpx.URL(self.url + path, params=dict(query)) if query else httpx.URL(self.url + path)


def response_of(response: httpx.Response) -> Response:
    """Return the response as a value."""
    return Response(response.status_code, headers_of(response), response.content)


def headers_of(response: httpx.Response) -> dict[str, str]:
    """Return its headers, names in lower case; several times quicker than to walk through what httpx makes of them."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}


def failure_of(error: httpx.TransportError) -> Failure:
    """Return why there was no response."""
    name = type(error).__name__
    return Failure(detail=f"{name}: {error}" if str(error) else name, sent=not isinstance(error, _NOT_SENT))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets this name when the block ends well; before, and after an error, what was there stays."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def begin_again(file: BinaryIO) -> None:
    """Empty a file that an attempt before this one may have written to."""
    file.seek(0)
    file.truncate()


def as_list(experiences: Experience | Sequence[Experience]) -> Sequence[Experience]:
    """Return one experience as a list of one."""
    return [experiences] if isinstance(experiences, Experience) else experiences


async def each(experiences: Iterable[Experience] | AsyncIterable[Experience]) -> AsyncGenerator[Experience, None]:
    """Walk through either kind of iterable."""
    if isinstance(experiences, AsyncIterable):
        async for experience in experiences:
            yield experience
    else:
        for experience in experiences:
            yield experience


def _ignore(error: ClientError) -> None:
    del error
