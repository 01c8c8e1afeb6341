"""uvicorn's HTTP protocol, with head and body of an answer in one write.

uvicorn writes them apart: two system calls and two wake-ups of the client for an answer of a hundred bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FINAL_HEAD = b"HTTP/1.1 "
_INTERIM_HEAD = b"HTTP/1.1 1"
_JOINED_BYTES_MAX = 64 * 1024
"""Joining more would cost more than a second write."""


class OneWriteProtocol(HttpToolsProtocol):
    """A connection whose transport holds a head back until the body, or the end of the answer, comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        """Begin, on a transport that joins."""
        self._joining = _Joining(transport)
        super().connection_made(self._joining)

    def on_response_complete(self) -> None:
        """Let out a head without a body."""
        self._joining.flush()
        super().on_response_complete()


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
            if len(data) <= _JOINED_BYTES_MAX:
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
