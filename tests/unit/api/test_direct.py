"""Connections whose hot paths go past ASGI: real sockets, an application that says which way a request came."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvicorn
from uvicorn.server import ServerState

from buffer_service.api.direct import DirectProtocol, Exchange
from buffer_service.api.driving import Driven
from buffer_service.api.messages import Answer, Headers, Receive, Request, Scope, Send, read_body, send_answer
from buffer_service.core.pending import Pending

HOT = "/hot"
HEAD = b"POST /hot HTTP/1.1\r\nhost: here\r\n"


@dataclass
class App:
    """Answers with the way a request came and its body; holds those whose body begins with ``hold``."""

    body_bytes_max: int = 1000
    held: list[Pending[bytes]] = field(default_factory=list)

    def takes(self, method: str, path: str) -> bool:
        """Take one path."""
        return (method, path) == ("POST", HOT)

    def refusal(self, path: str, headers: Headers) -> Answer | None:
        """Refuse who says so."""
        return Answer(b"refused " + path.encode()) if b"x-refuse" in headers else None

    def begin(self, path: str, request: Request, done: Callable[[Answer], object]) -> Driven[Answer]:
        """Answer past ASGI."""
        assert path == HOT
        return Driven(self._answer(request), done)

    async def _answer(self, request: Request) -> Answer:
        if not request.body.startswith(b"hold"):
            return Answer(b"direct " + request.query + b" " + request.body)
        waiting: Pending[bytes] = Pending(asyncio.get_running_loop(), droppable=True)
        self.held.append(waiting)
        return Answer(await waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by ASGI."""
        body = await read_body(receive, 10**6)
        await send_answer(send, Answer(b"asgi " + scope["query_string"] + b" " + body))


@dataclass
class Served:
    """A server and what a test needs of it."""

    app: App
    port: int
    state: ServerState

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def until_held(self, count: int) -> None:
        """Wait until so many requests are held."""
        await _until(lambda: len(self.app.held) >= count)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what changes it knows nothing of the test
            await asyncio.sleep(0)


@asynccontextmanager
async def _served(keep_alive_s: int = 60) -> AsyncIterator[Served]:
    app, state = App(), ServerState()
    config = uvicorn.Config(
        app,
        http=DirectProtocol,
        lifespan="off",
        access_log=False,
        log_config=None,
        timeout_keep_alive=keep_alive_s,
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: DirectProtocol(config, state, {}), "127.0.0.1", 0)
    async with server:
        yield Served(app, server.sockets[0].getsockname()[1], state)


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return head and body of the next answer."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    lengths = [int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-len")]
    return head, await asyncio.wait_for(reader.readexactly(lengths[0]), 10)


def _request(body: bytes, *lines: bytes, head: bytes = HEAD) -> bytes:
    return head + b"".join(line + b"\r\n" for line in lines) + b"content-length: %d\r\n\r\n" % len(body) + body


COLD = b"POST /cold HTTP/1.1\r\nhost: here\r\n"
WAYS = {
    "as it is": ([_request(b"one")], b"direct  one"),
    "with a query": ([_request(b"one", head=HEAD.replace(b"/hot", b"/hot?k=3&x"))], b"direct k=3&x one"),
    "byte by byte": ([bytes([byte]) for byte in _request(b"one")], b"direct  one"),
    "in chunks": (
        [HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\non\r\n", b"1\r\ne\r\n0\r\n\r\n"],
        b"direct  one",
    ),
    "refused before its body": ([_request(b"one", b"x-refuse: yes")], b"refused /hot"),
    "another path": ([_request(b"one", head=COLD)], b"asgi  one"),
    "another method": ([_request(b"one", head=HEAD.replace(b"POST", b"PUT"))], b"asgi  one"),
    "the path in other words": ([_request(b"one", head=HEAD.replace(b"/hot", b"/h%6ft"))], b"asgi  one"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_request_is_answered_whichever_way_it_goes(way: str) -> None:
    """Three times on one connection, with its query string and its whole body."""
    pieces, expected = WAYS[way]
    async with _served() as served, served.connected() as (reader, writer):
        for _ in range(3):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            head, body = await _answer(reader)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert body == expected
    assert served.state.total_requests == 3


async def test_requests_sent_before_the_last_was_answered_are_answered_in_order() -> None:
    """Both kinds, mixed; those behind one that is held go uvicorn's way, which keeps them in a queue."""
    async with _served() as served, served.connected() as (reader, writer):
        writer.write(_request(b"hold") + _request(b"two") + _request(b"three", head=COLD))
        await served.until_held(1)
        served.app.held[0].set_result(b"one")
        bodies = [(await _answer(reader))[1] for _ in range(3)]
        writer.write(_request(b"four"))
        bodies.append((await _answer(reader))[1])

    assert bodies == [b"one", b"asgi  two", b"asgi  three", b"direct  four"]


async def test_a_request_with_a_known_head_waits_for_the_one_before() -> None:
    """It goes the way that keeps the order."""
    async with _served() as served, served.connected() as (reader, writer):
        writer.write(_request(b"zero"))
        bodies = [(await _answer(reader))[1]]
        writer.write(_request(b"hold"))
        await served.until_held(1)
        writer.write(_request(b"next"))
        (protocol,) = served.state.connections
        await _until(lambda: len(protocol.pipeline) == 1)  # type: ignore[union-attr] # as uvicorn names what waits
        served.app.held[0].set_result(b"held")
        bodies += [(await _answer(reader))[1] for _ in range(2)]

    assert bodies == [b"direct  zero", b"held", b"asgi  next"]


async def test_a_direct_request_behind_one_of_asgi_waits_for_it() -> None:
    """The queue is one for both."""
    async with _served() as served, served.connected() as (reader, writer):
        writer.write(_request(b"one", head=COLD) + _request(b"two"))
        assert [(await _answer(reader))[1] for _ in range(2)] == [b"asgi  one", b"asgi  two"]


async def test_who_expects_to_be_asked_for_the_body_is_asked() -> None:
    """As curl does with long bodies."""
    async with _served() as served, served.connected() as (reader, writer):
        writer.write(HEAD + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"one")
        assert (await _answer(reader))[1] == b"asgi  one"


@pytest.mark.parametrize(
    ("head", "lines", "expected"),
    [(HEAD, [b"connection: close"], b"direct  one"), (HEAD.replace(b"1.1", b"1.0"), [], b"asgi  one")],
)
async def test_a_connection_that_is_not_to_be_kept_is_closed(head: bytes, lines: list[bytes], expected: bytes) -> None:
    """After the answer, which says so."""
    async with _served() as served, served.connected() as (reader, writer):
        writer.write(_request(b"one", *lines, head=head))
        answered, body = await _answer(reader)
        assert b"connection: close" in answered
        assert body == expected
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_body_that_turns_out_too_long_is_refused_and_the_connection_goes_on() -> None:
    """What still comes of it is passed over."""
    async with _served() as served, served.connected() as (reader, writer):
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            writer.write(b"1f4\r\n" + 500 * b"x" + b"\r\n")
        writer.write(b"0\r\n\r\n" + _request(b"next"))
        head, body = await _answer(reader)
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"1000 bytes" in body
        assert (await _answer(reader))[1] == b"direct  next"


async def test_a_long_answer_arrives_whole() -> None:
    """Beyond what is joined with its head."""
    async with _served() as served, served.connected() as (reader, writer):
        writer.write(_request(b"hold"))
        await served.until_held(1)
        served.app.held[0].set_result(3_000_000 * b"x")
        assert (await _answer(reader))[1] == 3_000_000 * b"x"


async def test_whoever_works_on_an_answer_learns_that_its_caller_has_gone() -> None:
    """And what it answers then goes nowhere, without harm to others."""
    async with _served() as served:
        async with served.connected() as (_, writer):
            writer.write(_request(b"hold"))
            await served.until_held(1)
        await _until(served.app.held[0].cancelled)
        served.app.held[0].set_result(b"nobody")
        async with served.connected() as (reader, writer):
            writer.write(_request(b"one"))
            assert (await _answer(reader))[1] == b"direct  one"


async def test_a_connection_that_is_not_used_is_closed_and_one_that_waits_is_not() -> None:
    """After the time that uvicorn was given."""
    async with _served(keep_alive_s=1) as served, served.connected() as idle, served.connected() as busy:
        for reader, writer in (idle, busy):
            writer.write(_request(b"one"))
            await _answer(reader)
        busy[1].write(_request(b"hold"))
        assert await asyncio.wait_for(idle[0].read(), 10) == b""
        assert not busy[0].at_eof()
        served.app.held[0].set_result(b"at last")
        assert (await _answer(busy[0]))[1] == b"at last"


async def test_a_shutdown_waits_for_the_answer_and_closes_then() -> None:
    """What was begun is ended; a connection that waits for nothing is closed at once."""
    async with _served() as served, served.connected() as idle, served.connected() as busy:
        for reader, writer in (idle, busy):
            writer.write(_request(b"one"))
            await _answer(reader)
        busy[1].write(_request(b"hold"))
        await served.until_held(1)
        for connection in list(served.state.connections):
            connection.shutdown()  # type: ignore[union-attr] # connections of DirectProtocol
        assert await asyncio.wait_for(idle[0].read(), 10) == b""
        served.app.held[0].set_result(b"the last")
        head, body = await _answer(busy[0])
        assert b"connection: close" in head
        assert body == b"the last"
        assert await asyncio.wait_for(busy[0].read(), 10) == b""


async def test_a_request_leaves_nothing_for_the_garbage_collector() -> None:
    """Else its body would be kept until that runs: bodies may be long, and many."""
    async with _served() as served, served.connected() as (reader, writer):
        await _one_of_each(served, reader, writer)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await _one_of_each(served, reader, writer)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [thing for thing in gc.garbage if isinstance(thing, Exchange | Driven | Request)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    assert left == []


async def _one_of_each(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a request that is answered at once and one that is answered later."""
    writer.write(_request(b"one"))
    await _answer(reader)
    writer.write(_request(b"hold"))
    await served.until_held(1)
    served.app.held.pop().set_result(b"two")
    await _answer(reader)
