"""What every contestant stores: vectors of 512 float32 with 500 bytes of metadata, the same for all. Pure functions."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from itertools import count, cycle
from uuid import uuid4

import msgspec
import numpy as np
import numpy.typing as npt

DIMENSION = 512
METADATA_BYTES = 500
POOL = 512
"""Different experiences; beyond them vectors and metadata come again, under a client_id of their own."""

_PLACE = b"client-id-is-put-here-as-32-char"


def vectors(rows: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return (rows, DIMENSION) float32, of normal distribution."""
    return np.random.default_rng(seed).standard_normal((rows, DIMENSION), np.float32)


def metadata(number: int) -> dict[str, str]:
    """Return metadata of METADATA_BYTES in MessagePack and in compact JSON; hardly compressible."""
    letters = random.Random(number).choices(string.ascii_letters, k=METADATA_BYTES - 11)  # noqa: S311 - no secret
    return {"note": "".join(letters)}


def append_requests(host: str) -> Iterator[bytes]:
    """Yield whole HTTP requests without end, each appending one experience of its own, as ``buffer_client`` does."""
    parts = [_append_request(host, number, row.tobytes()) for number, row in enumerate(vectors(POOL))]
    session = uuid4().hex[:16].encode()
    for (head, tail), number in zip(cycle(parts), count(), strict=False):
        yield head + session + b"%016x" % number + tail


def search_requests(host: str) -> Iterator[bytes]:
    """Yield whole HTTP requests without end, each a search of one vector for its ten nearest."""
    path = "/v1/search?k=10"
    yield from cycle(
        [http_request(host, path, "application/octet-stream", row.tobytes()) for row in vectors(POOL, seed=1)]
    )


def _append_request(host: str, number: int, vector: bytes) -> tuple[bytes, bytes]:
    experience = {
        "client_id": _PLACE.decode(),
        "confidence": 0.5,
        "visual": vector,
        "metadata": metadata(number),
    }
    body = msgspec.msgpack.encode({"experiences": [experience]})
    head, _, tail = http_request(host, "/v1/experiences", "application/msgpack", body).partition(_PLACE)
    return head, tail


def http_request(host: str, path: str, content_type: str, body: bytes) -> bytes:
    """Return a whole HTTP/1.1 POST request."""
    lines = (
        f"POST {path} HTTP/1.1",
        f"host: {host}",
        "accept: application/msgpack, application/json",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
