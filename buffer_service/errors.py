"""Every error that the service raises, ordered by what the caller does next.

ExperienceBufferError
├── RejectedError            mend the request; nothing was done
│   ├── InvalidRequestError  422
│   ├── UnauthorizedError    401
│   ├── ForbiddenError       403
│   ├── UnknownExperienceError  404
│   ├── EvictedExperienceError  410
│   ├── ConflictError        409
│   ├── UnusableBackupError  422
│   ├── TooLargeError        413
│   └── NotInstalledError    501
├── RetryLaterError          send the same again after ``retry_after_s``; nothing was done
│   ├── OverloadedError      503
│   ├── BacklogError         429
│   ├── RateLimitedError     429
│   ├── TooFewExperiencesError  503
│   ├── SequenceTimeoutError 503
│   └── StorageFullError     507
├── OutcomeUnknownError      503; send the same again with the same client_id or request_id
└── FatalError               this process cannot go on with its store; an operator has to look
    ├── StoreLockedError
    ├── SupersededError
    ├── CorruptStoreError
    └── IncompatibleStoreError
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar


class ExperienceBufferError(Exception):
    """Base of every error of the service. ``str(error)`` is a sentence that says what to do."""

    http_status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"


class RejectedError(ExperienceBufferError):
    """The request cannot be served as it is; nothing was done."""

    http_status = HTTPStatus.BAD_REQUEST
    code = "rejected"
    title = "Request rejected"


class InvalidRequestError(RejectedError):
    """A field is missing, unknown, of the wrong type or out of range."""

    http_status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid-request"
    title = "Invalid request"


class UnauthorizedError(RejectedError):
    """No token, or one that is not known."""

    http_status = HTTPStatus.UNAUTHORIZED
    code = "unauthorized"
    title = "Token needed"


class ForbiddenError(RejectedError):
    """The token is known, its scope does not allow this."""

    http_status = HTTPStatus.FORBIDDEN
    code = "forbidden"
    title = "Scope not allowed"


class UnknownExperienceError(RejectedError):
    """No experience was ever given this id."""

    http_status = HTTPStatus.NOT_FOUND
    code = "unknown-experience"
    title = "Unknown experience"


class EvictedExperienceError(RejectedError):
    """The experience existed and was evicted or removed."""

    http_status = HTTPStatus.GONE
    code = "evicted-experience"
    title = "Experience is gone"


class ConflictError(RejectedError):
    """The client_id or request_id was used before with another content."""

    http_status = HTTPStatus.CONFLICT
    code = "conflict"
    title = "Conflicting request"


class UnusableBackupError(RejectedError):
    """The backup is damaged, cut off, or does not hold what is asked of it."""

    http_status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "unusable-backup"
    title = "Unusable backup"


class TooLargeError(RejectedError):
    """The body is longer than the server accepts."""

    http_status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "too-large"
    title = "Body too large"


class NotInstalledError(RejectedError):
    """An optional part that the request needs is not installed here; the message says how to install it."""

    http_status = HTTPStatus.NOT_IMPLEMENTED
    code = "not-installed"
    title = "Optional part not installed"


class RetryLaterError(ExperienceBufferError):
    """Nothing was done; the same request can succeed after ``retry_after_s``."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "retry-later"
    title = "Try again later"
    retry_after_s: ClassVar[int] = 1


class OverloadedError(RetryLaterError):
    """A bounded queue is full."""

    code = "overloaded"
    title = "Too many requests are waiting"


class BacklogError(RetryLaterError):
    """The delta is full: rebuilds have fallen behind, and nothing may be hidden to go on."""

    http_status = HTTPStatus.TOO_MANY_REQUESTS
    code = "backlog"
    title = "Index rebuilds have fallen behind"
    retry_after_s = 5


class RateLimitedError(RetryLaterError):
    """Draws are too far ahead of appends, or appends of draws, by the settings of the buffer."""

    http_status = HTTPStatus.TOO_MANY_REQUESTS
    code = "rate-limited"
    title = "Draws and appends have drifted apart"


class TooFewExperiencesError(RetryLaterError):
    """The buffer holds fewer experiences than draws are taken from."""

    code = "too-few-experiences"
    title = "Too few experiences"


class SequenceTimeoutError(RetryLaterError):
    """The sequence number that the reader asked to see has not been reached in time."""

    code = "sequence-not-reached"
    title = "Sequence not reached"


class StorageFullError(RetryLaterError):
    """The disk or the store is full. Reads go on; writes go on by themselves once there is space."""

    http_status = HTTPStatus.INSUFFICIENT_STORAGE
    code = "storage-full"
    title = "Storage is full"
    retry_after_s = 10


class OutcomeUnknownError(ExperienceBufferError):
    """Durability of the write could not be confirmed; a retry with the same client_id adds nothing twice."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "outcome-unknown"
    title = "Outcome unknown"


class FatalError(ExperienceBufferError):
    """The store cannot be used by this process."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "fatal"
    title = "Store unusable"


class StoreLockedError(FatalError):
    """Another process has the store open."""

    code = "store-locked"
    title = "Store is in use"


class SupersededError(FatalError):
    """Another process has taken over the store since this one opened it; nothing more is written by this one."""

    code = "superseded"
    title = "Store was taken over"


class CorruptStoreError(FatalError):
    """A checksum or structure does not hold; the message names file and offset."""

    code = "corrupt-store"
    title = "Store is corrupt"


class IncompatibleStoreError(FatalError):
    """The store was written with another format, dimension or metric."""

    code = "incompatible-store"
    title = "Store does not fit the settings"
