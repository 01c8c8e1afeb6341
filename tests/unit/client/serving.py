"""A buffer in memory behind the transport of httpx: hands out ids as the service does, and can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from buffer_client import AsyncBufferClient, BufferClient, Experience

URL = "http://buffer.test"

Refusal = Callable[[list[dict[str, Any]]], httpx.Response | None]


def experiences(count: int, **given: object) -> list[Experience]:
    """Return experiences told apart by their answer."""
    usual = {"visual": [1.0, 0.0], "confidence": 0.5}
    return [Experience(**(usual | {"answer": str(place)} | given)) for place in range(count)]  # type: ignore[arg-type]


def problem(status: int, code: str) -> httpx.Response:
    """Return a problem document that asks to be sent again at once, if at all."""
    return httpx.Response(status, json={"status": status, "code": code, "detail": code}, headers={"Retry-After": "0"})


@dataclass
class Service:
    """Answers appends. ``refuse`` sees a request's experiences first and may answer in its place."""

    refuse: Refusal | None = None
    gate: threading.Event | None = None
    """Requests wait until it is set."""
    requests: list[list[dict[str, Any]]] = field(default_factory=list)
    """The experiences of each request that arrived."""
    ids: dict[str, int] = field(default_factory=dict)
    """By client_id, in the order of their arrival."""

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer an append."""
        given = msgspec.msgpack.decode(request.content)["experiences"]
        self.requests.append(given)
        if self.gate:
            self.gate.wait()
        refusal = self.refuse(given) if self.refuse else None
        if refusal is not None:
            return refusal
        ids = [self.ids.setdefault(item["client_id"], len(self.ids) + 1) for item in given]
        return httpx.Response(201, json={"ids": ids, "sequence": len(self.ids)})

    def client(self, retries: int = 0) -> BufferClient:
        """Return a client that talks to it."""
        return BufferClient(URL, retries=retries, transport=httpx.MockTransport(self.handle))

    def async_client(self, retries: int = 0) -> AsyncBufferClient:
        """Return a client for asyncio that talks to it."""
        return AsyncBufferClient(URL, retries=retries, transport=httpx.MockTransport(self.handle))
