"""The limit A: a plain ASGI application that decodes and checks appends as the product does, and stores nothing.

It runs under the product's HTTP server, uses the product's structs and check of a vector, and gives an answer of the
same size. Run: python -m benchmarks.bare_app.
"""

from __future__ import annotations

import socket
import sys
from http import HTTPStatus
from itertools import count

import uvicorn
import uvloop

from benchmarks.workload import DIMENSION
from buffer_service.api.messages import Receive, Request, Scope, Send, decode, encode, send_answer
from buffer_service.api.schemas import AppendAnswer, AppendBody
from buffer_service.core.embedding import to_vector

_JSON = "application/json"


class BareApp:
    """Numbers what it is given."""

    def __init__(self) -> None:
        self._ids = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one append."""
        headers = dict(scope["headers"])
        parts = []
        more = True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        accept = headers.get(b"accept", b"").decode("latin-1")
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        request = Request(b"", content_type or _JSON, accept, b"".join(parts))
        given = decode(request, AppendBody).experiences
        for experience in given:
            to_vector(experience.visual or b"", DIMENSION, "visual")
        ids = [next(self._ids) for _ in given]
        await send_answer(send, encode(request, AppendAnswer(ids, ids[-1]), HTTPStatus.CREATED))


async def _run() -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(BareApp(), loop="none", http="httptools", lifespan="off", access_log=False, log_config=None)
    sys.stdout.write(f"listening on http://127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    await uvicorn.Server(config).serve([listening])


if __name__ == "__main__":
    uvloop.run(_run())
