"""Every error that the client raises, ordered by what the caller does next.

ClientError
├── RejectedError               mend the request; nothing was done
│   ├── InvalidRequestError     422: a field is missing, unknown, of the wrong type or out of range
│   ├── TooLargeError           413: send less at a time
│   ├── NotInstalledError       501: the service lacks an optional part, which the message names
│   ├── ConflictError           409: client_id or request_id was used with another content
│   ├── UnauthorizedError       401: give a token
│   ├── ForbiddenError          403: give a token of a wider scope
│   ├── UnknownExperienceError  404: never given out
│   └── EvictedExperienceError  410: existed once
├── RetryLaterError             send the same again after ``retry_after_s``; nothing was done
│   ├── OverloadedError         503: too many requests are waiting
│   ├── BacklogError            429: rebuilds have fallen behind
│   ├── RateLimitedError        429: draws are too far ahead of appends, or appends of draws
│   ├── TooFewExperiencesError  503: fewer than ``sampling.min_size`` are there to draw from
│   ├── SequenceTimeoutError    503: ``min_sequence`` was not reached in time
│   ├── StorageFullError        507: the disk or the store is full
│   ├── UnreachableError        no answer, and nothing can have been changed
│   ├── AppenderFullError       a background appender had no room in time; the experience was not taken
│   └── FlushTimeoutError       a background appender was not done in time; it goes on
├── OutcomeUnknownError         send the same again, with the same client_id or request_id
├── IncompleteAppendError       see ``cause``, then send ``unacknowledged`` again; the rest is durable
│   └── IncompleteStreamError   likewise, of one stream; ``acknowledged`` has its ids so far
└── ServerFaultError            an operator has to look: the service cannot go on, or broke the contract
    ├── StoreUnusableError      503: the store is locked, corrupt or of another format
    └── ProtocolError           the answer is not what the contract says

The client retries by itself what is safe to retry, so RetryLaterError and OutcomeUnknownError mean that the retries
were used up too. Each error carries the fields of the problem document (RFC 9457) that it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from buffer_client.models import AppendResult, Experience


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem document. Fields that the server left out are empty, ``status`` is then that of the response."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    code: str = ""


class ClientError(Exception):
    """Base of every error of the client. ``str(error)`` is a sentence; the other fields are for programs.

    Errors pass between processes. Some libraries that carry them there keep the sentence alone, and it can take the
    problem's place.
    """

    def __init__(self, problem: Problem | str, retry_after_s: float | None = None) -> None:
        given = Problem(detail=problem) if isinstance(problem, str) else problem
        super().__init__(given.detail or given.title or f"the service answered {given.status}")
        self.problem: Final = given
        self.retry_after_s: Final = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problem, self.retry_after_s)

    @property
    def status(self) -> int:
        """HTTP status; 0 where there was no answer."""
        return self.problem.status

    @property
    def code(self) -> str:
        """The service's name for the error, stable across versions; empty where there was no answer."""
        return self.problem.code

    @property
    def title(self) -> str:
        """The kind of error in a few words."""
        return self.problem.title

    @property
    def type(self) -> str:
        """URI of the kind of error."""
        return self.problem.type

    @property
    def detail(self) -> str:
        """What was wrong with this very request."""
        return self.problem.detail


class RejectedError(ClientError):
    """The request cannot be served as it is; nothing was done."""


class InvalidRequestError(RejectedError):
    """A field is missing, unknown, of the wrong type or out of range."""


class TooLargeError(RejectedError):
    """The body is longer than the service accepts."""


class NotInstalledError(RejectedError):
    """The service lacks an optional part that the request needs."""


class ConflictError(RejectedError):
    """The client_id or request_id was used before with another content."""


class UnauthorizedError(RejectedError):
    """No token, or one that is not known."""


class ForbiddenError(RejectedError):
    """The token is known, its scope does not allow this."""


class UnknownExperienceError(RejectedError):
    """No experience was ever given this id."""


class EvictedExperienceError(RejectedError):
    """The experience existed and was evicted or removed."""


class RetryLaterError(ClientError):
    """Nothing was done; the same request can succeed later."""


class OverloadedError(RetryLaterError):
    """A bounded queue of the service is full."""


class BacklogError(RetryLaterError):
    """Index rebuilds have fallen behind, and the service hides nothing to go on."""


class RateLimitedError(RetryLaterError):
    """The service keeps draws and appends in step, and this side is too far ahead."""


class TooFewExperiencesError(RetryLaterError):
    """The service gives out nothing before it holds as many experiences as its settings say."""


class SequenceTimeoutError(RetryLaterError):
    """The sequence number that the reader asked to see was not reached in time."""


class StorageFullError(RetryLaterError):
    """The disk or the store is full. Reads go on."""


class UnreachableError(RetryLaterError):
    """No answer came, and the request cannot have changed anything: it was not sent, or it was a read."""


class AppenderFullError(RetryLaterError):
    """A background appender had no room within the time given. The experience was not taken."""


class FlushTimeoutError(RetryLaterError):
    """A background appender did not get its acknowledgements within the time given. It still holds and sends all."""


class OutcomeUnknownError(ClientError):
    """The request may or may not have been carried out."""


class IncompleteAppendError(ClientError):
    """Some of many experiences were not acknowledged; each of them may or may not be there.

    Sending ``unacknowledged`` again, the same objects, adds nothing twice. Whether that can help is what ``cause``
    says; status, code and the like are those of the cause where it came from the service.
    """

    def __init__(self, cause: Exception, unacknowledged: Sequence[Experience], detail: str = "") -> None:
        given = cause.problem if isinstance(cause, ClientError) else Problem(title=type(cause).__name__)
        sentence = detail or f"{len(unacknowledged)} experiences were not acknowledged"
        super().__init__(
            msgspec.structs.replace(given, detail=f"{sentence}: {cause}"),
            cause.retry_after_s if isinstance(cause, ClientError) else None,
        )
        self.cause: Final = cause
        self.unacknowledged: Final = tuple(unacknowledged)
        """In the order given."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.cause, self.unacknowledged)


class IncompleteStreamError(IncompleteAppendError):
    """A stream ended early: ``acknowledged`` are its first experiences, ``unacknowledged`` the next that were read."""

    def __init__(self, cause: Exception, unacknowledged: Sequence[Experience], acknowledged: AppendResult) -> None:
        super().__init__(
            cause, unacknowledged, f"{len(acknowledged.ids)} experiences were acknowledged, then the stream failed"
        )
        self.acknowledged: Final = acknowledged

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.cause, self.unacknowledged, self.acknowledged)


class ServerFaultError(ClientError):
    """The service failed in a way that sending again does not mend."""


class StoreUnusableError(ServerFaultError):
    """The service cannot use its store."""


class ProtocolError(ServerFaultError):
    """The answer is not what the contract says: another version, or something in between that is not the service."""


_BY_CODE: Final[dict[str, type[ClientError]]] = {
    "rejected": RejectedError,
    "invalid-request": InvalidRequestError,
    "too-large": TooLargeError,
    "not-installed": NotInstalledError,
    "conflict": ConflictError,
    "unauthorized": UnauthorizedError,
    "forbidden": ForbiddenError,
    "unknown-experience": UnknownExperienceError,
    "evicted-experience": EvictedExperienceError,
    "retry-later": RetryLaterError,
    "overloaded": OverloadedError,
    "backlog": BacklogError,
    "rate-limited": RateLimitedError,
    "too-few-experiences": TooFewExperiencesError,
    "sequence-not-reached": SequenceTimeoutError,
    "storage-full": StorageFullError,
    "outcome-unknown": OutcomeUnknownError,
    "fatal": StoreUnusableError,
    "store-locked": StoreUnusableError,
    "superseded": StoreUnusableError,
    "corrupt-store": StoreUnusableError,
    "incompatible-store": StoreUnusableError,
}

_BY_STATUS: Final[dict[int, type[ClientError]]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    413: TooLargeError,
    429: RetryLaterError,
    502: OutcomeUnknownError,
    503: RetryLaterError,
    504: OutcomeUnknownError,
    507: StorageFullError,
}
"""For answers without a code: those of a proxy, which may (502, 504) or may not (503) have passed the request on."""


def error_class(status: int, code: str) -> type[ClientError]:
    """Return the class for an answer: by its code, else by its status, else by the hundred of its status."""
    known = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if known is not None:
        return known
    return RejectedError if 400 <= status < 500 else ServerFaultError  # noqa: PLR2004 - the 4xx range
