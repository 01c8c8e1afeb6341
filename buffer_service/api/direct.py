"""The hot paths without ASGI: a request goes from the parser to its handler, and the answer to the socket in one write.

All else, and what is unusual (a request sent before the last was answered, ``Expect``, HTTP/1.0, an upgrade), goes
uvicorn's way and gets the same answers. What is spared is a task, three turns of the loop, ASGI's messages and a timer
for each request; together they took more of the loop's time than reading, checking and answering do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from buffer_service.api.driving import Driven
from buffer_service.api.heads import Head, KnownHeads
from buffer_service.api.messages import Answer, Fields, Headers, Request, problem, request_of, too_large
from buffer_service.api.protocol import JOINED_BYTES_MAX, OneWriteProtocol

_CLOSE = b"connection: close\r\n"


class Direct(Protocol):
    """What answers without ASGI."""

    body_bytes_max: int

    def takes(self, method: str, path: str) -> bool:
        """Tell whether it answers such requests."""
        ...

    def refusal(self, path: str, headers: Headers) -> Answer | None:
        """Return the answer to a request that is refused whatever its body is, None where it is not."""
        ...

    def begin(self, path: str, request: Request, done: Callable[[Answer], object]) -> Driven[Answer]:
        """Answer: ``done`` is called once, on the loop, perhaps before this returns."""
        ...


class Exchange:
    """A request and its answer, in the place of uvicorn's cycle: with what its protocol asks of that."""

    __slots__ = ("body", "disconnected", "driven", "head", "keep_alive", "response_complete", "size")

    def __init__(self, head: Head) -> None:
        self.head = head
        self.body: list[bytes] = []
        self.size = 0
        self.keep_alive = head.keep_alive
        self.driven: Driven[Answer] | None = None
        self.disconnected = False
        self.response_complete = False

    @property
    def message_event(self) -> Exchange:
        """Return what is ``set`` when the connection is lost."""
        return self

    def set(self) -> None:
        """Let what works on an answer know that nobody waits for it."""
        if self.driven is not None and self.disconnected:
            self.driven.caller_gone()


class DirectProtocol(OneWriteProtocol):
    """A connection to an application that is Direct as well."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        """Begin."""
        super().connection_made(transport)
        self._direct: Direct = self.config.app  # type: ignore[assignment] # the server gives it such a one
        self._out = transport
        self._exchange: Exchange | None = None
        self._heads = KnownHeads()
        self._between = True
        """Whether the parser has seen no part of a message of which it has not seen the end."""

    def data_received(self, data: bytes) -> None:
        """Take what has come: a request whose head is known goes past the parser, which would say the same again."""
        known = self._heads.split(data) if self._between and not self.busy else None
        if known is None:
            fresh = self._between
            super().data_received(data)
            if fresh and self._between and self._exchange is not None:
                self._heads.remember(data, self._exchange.head, self._exchange.size)
            return
        head, body = known
        exchange = self._opened(head)
        if not exchange.response_complete:
            self._begin(exchange, body)

    def on_message_begin(self) -> None:
        """Begin a request; what uvicorn makes ready for ASGI waits until it is known to be needed."""
        self._between = False
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Decide which way the request goes."""
        self._exchange = None
        url, _, query = self.url.partition(b"?")
        path = url.decode("latin-1")
        if not self._direct.takes("POST", path) or self._unusual():
            self._begin_message()
            super().on_headers_complete()
            return
        headers = dict(self.headers)
        self._opened(Head(path, headers, self.parser.should_keep_alive(), request_of(headers, query, b"")))

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        exchange = self._exchange
        if exchange is None:
            super().on_body(body)
        elif not exchange.response_complete:
            exchange.size += len(body)
            exchange.body.append(body)
            if exchange.size > self._direct.body_bytes_max:
                self._answer(exchange, problem(too_large(self._direct.body_bytes_max)))

    def on_message_complete(self) -> None:
        """Answer."""
        self._between = True
        exchange = self._exchange
        if exchange is None:
            super().on_message_complete()
        elif not exchange.response_complete:
            parts, exchange.body = exchange.body, []
            self._begin(exchange, parts[0] if len(parts) == 1 else b"".join(parts))

    def _opened(self, head: Head) -> Exchange:
        """Return the exchange of a request that begins; it is complete where the request is refused."""
        exchange = Exchange(head)
        self.cycle = exchange  # type: ignore[assignment] # see Exchange
        self._exchange = exchange
        refusal = self._direct.refusal(head.path, head.headers)
        if refusal is not None:
            self._answer(exchange, refusal)
        return exchange

    def _begin(self, exchange: Exchange, body: bytes) -> None:
        head = exchange.head
        driven = self._direct.begin(head.path, head.request(body), lambda answer: self._answer(exchange, answer))
        if not exchange.response_complete:
            exchange.driven = driven

    def _begin_message(self) -> None:
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers += headers

    def _unusual(self) -> bool:
        return (
            self.busy
            or self.expect_100_continue
            or self.parser.get_method() != b"POST"
            or self.parser.get_http_version() != "1.1"
            or self.parser.should_upgrade()
        )

    def _answer(self, exchange: Exchange, answer: Answer) -> None:
        """Send the answer, and let the connection go on; nothing where the caller has gone."""
        exchange.driven = None  # which refers to the exchange: a cycle would keep both, and the body, for a while
        if exchange.disconnected or self._out.is_closing():
            return
        exchange.response_complete = True
        last = b"" if exchange.keep_alive else _CLOSE
        always = tuple(self.server_state.default_headers)
        head = _head(int(answer.status), answer.content_type, len(answer.body), answer.headers, always, last)
        if len(answer.body) <= JOINED_BYTES_MAX:
            self._out.write(head + answer.body)
        else:
            self._out.write(head)
            self._out.write(answer.body)
        if not exchange.keep_alive:
            self._out.close()
        self.on_response_complete()


@lru_cache(4)
def _lines(headers: Fields) -> bytes:
    """Return header lines; those that every answer has change once a second."""
    return b"".join([b"%s: %s\r\n" % pair for pair in headers])


@lru_cache(16)
def _head(status: int, content_type: str, length: int, more: Fields, always: Fields, last: bytes) -> bytes:
    """Return the head of an answer; those of one batch share it."""
    return b"%s%scontent-type: %s\r\ncontent-length: %d\r\n%s%s\r\n" % (
        STATUS_LINE[status],
        _lines(always),
        content_type.encode(),
        length,
        _lines(more),
        last,
    )
