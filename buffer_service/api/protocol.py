"""uvicorn's HTTP protocol, with head and body of an answer in one write, and one timer for a connection.

uvicorn writes them apart: two system calls and two wake-ups of the client for an answer of a hundred bytes. And with
each request it makes and cancels a timer that closes unused connections; one that looks again when it is due will do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_FINAL_HEAD = b"HTTP/1.1 "
_INTERIM_HEAD = b"HTTP/1.1 1"
JOINED_BYTES_MAX = 64 * 1024
"""Joining more would cost more than a second write."""
_LOOK_AGAIN_S = 1.0
"""After this a connection that is due is looked at again, where it waits for an answer."""


class OneWriteProtocol(HttpToolsProtocol):
    """A connection whose transport holds a head back until the body, or the end of the answer, comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        """Begin, on a transport that joins."""
        self._joining = _Joining(transport)
        self._used_at = self.loop.time()
        super().connection_made(self._joining)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and the timer with it."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    def on_response_complete(self) -> None:
        """Let out a head without a body, and let the connection go on: with the next request, or waiting for one."""
        self._joining.flush()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._used_at = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.timeout_keep_alive_task is None:
            self._look_again(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection where it has not been used for so long, or look again when that may be."""
        left_s = self._used_at + self.timeout_keep_alive - self.loop.time()
        if left_s > 0 or self.busy:
            self._look_again(max(left_s, _LOOK_AGAIN_S))
        else:
            super().timeout_keep_alive_handler()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _look_again(self, delay_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(delay_s, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """Leave the timer, which looks at what has happened since."""
        self._used_at = self.loop.time()


class _Joining(asyncio.Transport):
    """The transport below, but for the head that it holds."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.set_protocol = transport.set_protocol  # type: ignore[method-assign]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, or hold the head of an answer."""
        if self._head:
            head, self._head = self._head, b""
            if len(data) <= JOINED_BYTES_MAX:
                self._transport.write(head + data)
                return
            self._transport.write(head)
        elif isinstance(data, bytes) and data.startswith(_FINAL_HEAD) and not data.startswith(_INTERIM_HEAD):
            self._head = data
            return
        self._transport.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write all."""
        self.write(b"".join(list_of_data))

    def flush(self) -> None:
        """Let out what is held."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Let out what is held, and close."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
