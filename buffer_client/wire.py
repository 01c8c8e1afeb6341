"""Requests and responses as values, and what it takes to turn one into the other; nothing here does input or output.

A ``Call`` says everything that a transport needs: what to send, how to read the answer, and whether sending twice is
safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar, get_origin

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_client.errors import ClientError, Problem, ProtocolError, RetryLaterError, error_class

JSON = "application/json"
MESSAGE_PACK = "application/msgpack"
OCTETS = "application/octet-stream"
ACCEPT = f"{MESSAGE_PACK}, {JSON}"
ACCEPT_ARRAYS = f"{OCTETS}, {ACCEPT}"

RETRY_AFTER_DEFAULT_S = 1.0

T = TypeVar("T")

_FLOAT32 = np.dtype("<f4")


class Repeat(Enum):
    """What happens when a request is carried out twice."""

    READ = "read"
    """Nothing is changed by it."""
    IDEMPOTENT = "idempotent"
    """The second time changes nothing more and is answered like the first."""
    ONCE = "once"
    """The second time may be answered otherwise, so it is sent again only where it cannot have been carried out."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, without host and credentials."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = JSON
    query: Mapping[str, str] = field(default_factory=dict)
    accept: str = ACCEPT


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response, read to its end. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, its meaning, and how its answer is read; ``parse`` raises ProtocolError for what it cannot read."""

    request: Request
    repeat: Repeat
    parse: Callable[[Response], T]


def post(path: str, body: object, accept: str = ACCEPT) -> Request:
    """Return a POST of the body as MessagePack."""
    return Request("POST", path, msgspec.msgpack.encode(body), MESSAGE_PACK, accept=accept)


def decode(response: Response, expected: type[T]) -> T:
    """Return the body, MessagePack or JSON, as the expected type."""
    if response.headers.get("content-type") == MESSAGE_PACK:
        return decode_part(response, 0, expected)
    with _readable(response):
        return msgspec.json.decode(response.body, type=expected, dec_hook=_array)


def decode_part(response: Response, start: int, expected: type[T]) -> T:
    """Return the MessagePack that the body holds from a byte on, as the expected type."""
    with _readable(response):
        return msgspec.msgpack.decode(memoryview(response.body)[start:], type=expected, dec_hook=_array)


@contextmanager
def _readable(response: Response) -> Iterator[None]:
    try:
        yield
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ProtocolError(Problem(status=response.status, title="Unreadable answer", detail=str(error))) from error


def _array(kind: type[Any], given: Any) -> Any:  # noqa: ANN401 - msgspec asks for whatever it does not know
    """Return a vector: little-endian float32 in MessagePack, a list in JSON."""
    if get_origin(kind) is not np.ndarray:
        raise NotImplementedError(kind)
    return np.frombuffer(given, "<f4") if isinstance(given, bytes) else np.array(given, np.float32)


def matrix(vectors: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return one vector or many as a little-endian float32 matrix, contiguous.

    What is too large for a float32 becomes infinite and is then refused by the service. Raises ValueError for other
    shapes.
    """
    with np.errstate(over="ignore"):
        array = np.asarray(vectors, dtype="<f4", order="C")
    if array.ndim == 1:
        return array.reshape(1, -1)
    if array.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"a vector has one dimension and a matrix of vectors two, this has {array.ndim}")
    return array


def vector(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return one vector as little-endian float32; raises ValueError for a matrix."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype == _FLOAT32:
        return values
    rows = matrix(values)
    if len(rows) != 1:
        raise ValueError(f"one vector is expected, this is a matrix of {len(rows)}")
    return rows.reshape(-1)


def retry_after_s(response: Response) -> float | None:
    """Return the seconds that the service asks to wait, None where it does not say so in seconds."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def error_from(response: Response) -> ClientError:
    """Return the error that an answer of status 400 or more stands for."""
    try:
        problem = msgspec.json.decode(response.body, type=Problem)
    except (msgspec.DecodeError, UnicodeError):
        problem = Problem(detail=f"the service answered {response.status} with no problem document")
    if not problem.status:
        problem = msgspec.structs.replace(problem, status=response.status)
    kind = error_class(response.status, problem.code)
    wait_s = retry_after_s(response)
    if wait_s is None and issubclass(kind, RetryLaterError):
        wait_s = RETRY_AFTER_DEFAULT_S
    return kind(problem, wait_s)


def read(call: Call[T], response: Response) -> T:
    """Return what the call asked for, or raise the error that the answer stands for."""
    if response.status >= 400:  # noqa: PLR2004 - first status of an error
        raise error_from(response)
    if response.status >= 300:  # noqa: PLR2004 - redirections are not part of the contract
        raise ProtocolError(
            Problem(status=response.status, detail=f"the answer {response.status} sends the request elsewhere")
        )
    return call.parse(response)
