"""Heads that came before go past the parser; nobody can tell, whatever is sent and however it is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from buffer_service.api import heads
from buffer_service.api.direct import DirectProtocol
from buffer_service.api.driving import Driven
from buffer_service.api.messages import Answer, Headers, Receive, Request, Scope, Send, read_body, send_answer

HEAD = b"POST /hot?k=1 HTTP/1.1\r\nhost: here\r\n"
HEADS = {
    "direct": HEAD,
    "of another type": HEAD + b"content-type: application/octet-stream\r\n",
    "by another name": b"POST /cold HTTP/1.1\r\nhost: here\r\n",
    "in chunks": HEAD + b"transfer-encoding: chunked\r\n",
}


class App:
    """Answers with what it was given; ``barred`` refuses all."""

    body_bytes_max = 1000

    def __init__(self) -> None:
        self.barred = False

    def takes(self, method: str, path: str) -> bool:
        """Take one path."""
        return (method, path) == ("POST", "/hot")

    def refusal(self, path: str, headers: Headers) -> Answer | None:
        """Refuse who has no token any more."""
        del path, headers
        return Answer(b"refused") if self.barred else None

    def begin(self, path: str, request: Request, done: Callable[[Answer], object]) -> Driven[Answer]:
        """Answer past ASGI."""

        async def answer() -> Answer:
            words = [path.encode(), request.query, request.content_type.encode(), request.body]
            return Answer(b"direct " + b" ".join(words))

        return Driven(answer(), done)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by ASGI."""
        del scope
        await send_answer(send, Answer(b"asgi " + await read_body(receive, 10**6)))


class Written(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.data += bytes(data)

    def is_closing(self) -> bool:
        """Tell whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Close."""
        self.closed = True

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Tell the addresses."""
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def pause_reading(self) -> None:
        """Do nothing: what is sent is handed over."""

    def resume_reading(self) -> None:
        """Do nothing."""


def _connected(app: App) -> tuple[DirectProtocol, Written]:
    config = uvicorn.Config(app, http=DirectProtocol, lifespan="off", access_log=False, log_config=None)
    config.load()
    protocol, transport = DirectProtocol(config, ServerState(), {}), Written()
    protocol.connection_made(transport)
    return protocol, transport


def _whole(head: bytes, body: bytes) -> bytes:
    if head == HEADS["in chunks"]:
        return head + b"\r\n" + (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


async def _bodies(transport: Written, count: int) -> list[bytes]:
    """Return the bodies of what has been answered, once there are so many answers or no more come."""
    for _ in range(1000):  # turns of the loop; an answer takes a few
        if transport.data.count(b"HTTP/1.1 200 ") >= count:
            break
        await asyncio.sleep(0)
    bodies, rest = [], transport.data
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0].partition(b":")[2])
        bodies.append(rest[:length])
        rest = rest[length:]
    return bodies


def _expected(name: str, body: bytes) -> bytes:
    if name == "by another name":
        return b"asgi " + body
    kind = b"application/octet-stream" if name == "of another type" else b"application/json"
    return b"direct /hot k=1 " + kind + b" " + body


BODIES = st.one_of(st.binary(max_size=8), st.sampled_from([b"", b"\r\n\r\n", b"a\r\n\r\nb", HEAD, b"x" * 900]))
REQUESTS = st.lists(st.tuples(st.sampled_from(sorted(HEADS)), BODIES), min_size=1, max_size=12)


async def _answers(pieces: list[bytes], due: list[int]) -> list[bytes]:
    """Return the bodies of what is answered; after each piece so many answers are due in all, and waited for."""
    protocol, transport = _connected(App())
    for piece, count in zip(pieces, due, strict=True):
        protocol.data_received(piece)
        found = await _bodies(transport, count)
    protocol.connection_lost(None)
    return found


@given(REQUESTS)
def test_each_request_gets_its_own_answer_whatever_came_before(requests: list[tuple[str, bytes]]) -> None:
    """Heads come again with other bodies, longer ones, and ones that look like heads."""
    pieces = [_whole(HEADS[name], body) for name, body in requests]

    found = asyncio.run(_answers(pieces, list(range(1, len(pieces) + 1))))

    assert found == [_expected(name, body) for name, body in requests]


ALIKE = st.tuples(st.sampled_from(["direct", "of another type"]), st.binary(min_size=2, max_size=3))
CUT = st.tuples(ALIKE, st.sampled_from(["whole", "with the next", "in the head", "in the body"]))


@given(st.lists(CUT, min_size=1, max_size=12))
def test_requests_cut_anywhere_are_answered_in_order(requests: list[tuple[tuple[str, bytes], str]]) -> None:
    """Reads of several requests and of parts of one, with heads that are known by then."""
    pieces = [b""]
    for (name, body), cut in requests:
        sent = _whole(HEADS[name], body)
        where = {"in the head": len(sent) // 2, "in the body": len(sent) - 1}.get(cut, len(sent))
        pieces[-1] += sent[:where]
        pieces += [] if cut == "with the next" else [sent[where:]] if where < len(sent) else [b""]

    found = asyncio.run(_answers(pieces, [0] * (len(pieces) - 1) + [len(requests)]))

    assert found == [_expected(name, body) for (name, body), _ in requests]


async def test_what_looks_like_a_known_request_inside_another_is_a_part_of_that() -> None:
    """As its body, and as lines of its head, though it comes in a read of its own."""
    inner = _whole(HEAD, b"one")
    head = _whole(HEAD, inner).removesuffix(inner)
    line = HEAD.replace(b"k=1", b"k=2").replace(b"host: here\r\n", b"x: ")

    assert await _answers([inner, head, inner, line, inner, inner], [1, 1, 2, 2, 3, 4]) == [
        _expected("direct", b"one"),
        _expected("direct", inner),
        _expected("direct", b"one").replace(b"k=1", b"k=2"),
        _expected("direct", b"one"),
    ]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what the parser was given."""
    given: list[bytes] = []
    received = HttpToolsProtocol.data_received

    def noted(self: HttpToolsProtocol, data: bytes) -> None:
        given.append(data)
        received(self, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", noted)
    return given


async def test_a_head_is_parsed_once_and_what_it_may_do_is_asked_each_time(parsed: list[bytes]) -> None:
    """A token that is withdrawn ends what the same head was allowed to do."""
    app = App()
    protocol, transport = _connected(app)
    for body in (b"one", b"two", b"six"):
        protocol.data_received(_whole(HEAD, body))
    assert await _bodies(transport, 3) == [_expected("direct", body) for body in (b"one", b"two", b"six")]
    assert len(parsed) == 1

    app.barred = True
    protocol.data_received(_whole(HEAD, b"ten"))
    assert (await _bodies(transport, 4))[-1] == b"refused"
    assert len(parsed) == 1
    protocol.connection_lost(None)


@pytest.mark.parametrize("name", ["by another name", "in chunks"])
async def test_heads_that_say_anything_unusual_are_parsed_each_time(parsed: list[bytes], name: str) -> None:
    """What goes by ASGI, and what does not say how long it is."""
    protocol, transport = _connected(App())
    for place in (1, 2):
        protocol.data_received(_whole(HEADS[name], b"one"))
        await _bodies(transport, place)

    assert len(parsed) == 2
    protocol.connection_lost(None)


async def test_only_a_few_heads_are_kept(monkeypatch: pytest.MonkeyPatch, parsed: list[bytes]) -> None:
    """The oldest goes first, so that a connection takes bounded memory whatever is sent."""
    monkeypatch.setattr(heads, "_KEPT_MAX", 2)
    protocol, transport = _connected(App())
    for length in (1, 2, 3, 3, 2, 1):
        protocol.data_received(_whole(HEAD, b"x" * length))
    await _bodies(transport, 6)

    assert [len(data) - len(_whole(HEAD, b"")) for data in parsed] == [1, 2, 3, 1]
    protocol.connection_lost(None)
