"""The limit A: a bare ASGI application that receives the bytes of a search and answers as many, and searches nothing.

It runs under the product's HTTP protocol, which is the quickest there is here. Run: python -m benchmarks.search_bare.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
import uvloop

from benchmarks.search_data import K
from buffer_service.api.protocol import OneWriteProtocol

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BODY = bytes((8 + 4) * K)
_HEADERS = [
    (b"content-type", b"application/octet-stream"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"x-sequence", b"105000"),
    (b"x-generation", b"1"),
]


async def application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Take one request and answer it."""
    del scope
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


async def _run() -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        application, loop="none", http=OneWriteProtocol, lifespan="off", access_log=False, log_config=None
    )
    sys.stdout.write(f"listening on http://127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    await uvicorn.Server(config).serve([listening])


if __name__ == "__main__":
    uvloop.run(_run())
