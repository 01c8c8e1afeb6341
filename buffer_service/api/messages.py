"""Requests and answers of the plain ASGI routes, without a framework around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
import numpy as np

from buffer_service.errors import (
    ExperienceBufferError,
    InvalidRequestError,
    RetryLaterError,
    TooLargeError,
    UnauthorizedError,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Mapping[bytes, bytes]
"""By name in lower case."""
Fields = tuple[tuple[bytes, bytes], ...]
"""Lines of a head that is sent: names and values."""

JSON = "application/json"
MESSAGE_PACK = "application/msgpack"
OCTETS = "application/octet-stream"
PROBLEM = "application/problem+json"
_MEDIA_TYPES = {name.encode(): name for name in (JSON, MESSAGE_PACK, OCTETS)}

T = TypeVar("T")


@dataclass(slots=True)
class Request:
    """A request whose body has been read. Like Answer not frozen, for that takes thrice as long to make."""

    query: bytes
    """The query string; see ``parameters``."""
    content_type: str
    accept: str
    body: bytes


@dataclass(slots=True)
class Answer:
    """What is sent back."""

    body: bytes
    content_type: str = JSON
    status: HTTPStatus = HTTPStatus.OK
    headers: Fields = ()


def require_length(headers: Headers, body_bytes_max: int) -> None:
    """Raise TooLargeError where a longer body is announced."""
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > body_bytes_max:
        raise too_large(body_bytes_max)


async def read_body(receive: Receive, body_bytes_max: int) -> bytes:
    """Read the body; raises TooLargeError as soon as it is known to be too long."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > body_bytes_max:
            raise too_large(body_bytes_max)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def request_of(headers: Headers, query: bytes, body: bytes) -> Request:
    """Return a request as handlers take it."""
    media_type, accept = headers.get(b"content-type", b""), headers.get(b"accept", b"")
    return Request(query, _media_type(media_type), accept.decode("latin-1"), body)


def _media_type(text: bytes) -> str:
    return _MEDIA_TYPES.get(text) or text.decode("latin-1").partition(";")[0].strip().lower() or JSON


@lru_cache(1024)
def parameters(query: bytes) -> Mapping[str, str]:
    """Return the parameters of a query string; callers tend to send the same again and again."""
    return MappingProxyType(dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))


def decode(request: Request, kind: type[T]) -> T:
    """Parse a JSON or MessagePack body; raises InvalidRequestError that names the place."""
    if request.content_type not in (JSON, MESSAGE_PACK):
        raise InvalidRequestError(
            f"content type {request.content_type} is not understood; send {JSON} or {MESSAGE_PACK}"
        )
    codec = msgspec.msgpack if request.content_type == MESSAGE_PACK else msgspec.json
    try:
        decoded: T = codec.decode(request.body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequestError(f"the body cannot be used: {error}") from error
    return decoded


def encode(request: Request, content: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """Answer in MessagePack where the caller accepts that, else in JSON."""
    return encoded(content, request.accept, status)


def encoded(content: object, accept: str, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """Answer a caller with this Accept header. Vectors are little-endian float32 in MessagePack, lists in JSON."""
    if MESSAGE_PACK in accept:
        return Answer(msgspec.msgpack.encode(content, enc_hook=_as_bytes), MESSAGE_PACK, status)
    return Answer(msgspec.json.encode(content, enc_hook=_as_list), JSON, status)


def _as_bytes(vector: Any) -> bytes:  # noqa: ANN401 - msgspec asks with whatever it does not know
    if not isinstance(vector, np.ndarray):
        raise TypeError(f"{type(vector).__name__} has no encoding")
    return np.ascontiguousarray(vector, "<f4").tobytes()


def _as_list(vector: Any) -> list[float]:  # noqa: ANN401 - as above
    if not isinstance(vector, np.ndarray):
        raise TypeError(f"{type(vector).__name__} has no encoding")
    values: list[float] = vector.tolist()
    return values


def problem(error: ExperienceBufferError) -> Answer:
    """Return the RFC 9457 problem document of an error."""
    document = {
        "type": f"urn:experience-buffer:problem:{error.code}",
        "title": error.title,
        "status": int(error.http_status),
        "detail": str(error),
        "code": error.code,
    }
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, RetryLaterError):
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    if isinstance(error, UnauthorizedError):
        headers.append((b"www-authenticate", b"Bearer"))
    return Answer(msgspec.json.encode(document), PROBLEM, error.http_status, tuple(headers))


def failure() -> Answer:
    """Return the answer where a handler failed for a reason that nobody foresaw; the log says which."""
    return Answer(b"Internal Server Error", "text/plain; charset=utf-8", HTTPStatus.INTERNAL_SERVER_ERROR)


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a whole answer."""
    length = str(len(answer.body)).encode()
    headers = [(b"content-type", answer.content_type.encode()), (b"content-length", length), *answer.headers]
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def too_large(body_bytes_max: int) -> TooLargeError:
    """Return the error of a body that is too long."""
    return TooLargeError(f"the body is longer than {body_bytes_max} bytes; send fewer rows in one request")
