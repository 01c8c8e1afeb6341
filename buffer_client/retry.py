"""When to send again: pure decisions, driven by whoever owns the clock and the socket.

``exchange`` is a generator: it yields ``Send`` and is given the response or a ``Failure``, it yields ``Wait`` and is
given None, and it returns the result or raises. The sync and the async client are two small drivers of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from buffer_client.errors import ClientError, OutcomeUnknownError, Problem, RetryLaterError, UnreachableError
from buffer_client.wire import Call, Repeat, Request, Response, read

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Bounds of one call. All times in seconds."""

    timeout_s: float = 10.0
    """For one attempt."""
    deadline_s: float = 30.0
    """For the call with all its attempts and waits; no attempt is begun after it."""
    retries: int = 5
    """Attempts after the first."""
    backoff_first_s: float = 0.05
    backoff_max_s: float = 2.0
    retry_after_max_s: float = 10.0
    """A service that asks for a longer wait is asked again after this."""

    def wait_s(self, attempt: int, error: ClientError, random: float) -> float:
        """Return the pause after the failed ``attempt`` (from 0); ``random`` in [0, 1) spreads clients apart."""
        backoff_s = min(self.backoff_max_s, self.backoff_first_s * 2.0**attempt) * (0.5 + random / 2)
        return max(backoff_s, min(error.retry_after_s or 0.0, self.retry_after_max_s))


@dataclass(frozen=True, slots=True)
class Send:
    """Send this now."""

    request: Request
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """No response came."""

    detail: str
    sent: bool
    """Whether the service may have received the request."""


Step = Send | Wait
Answer = Response | Failure | None


def failure_error(call: Call[T], failure: Failure) -> ClientError:
    """Return the error for a request that got no response."""
    if failure.sent and call.repeat is not Repeat.READ:
        return OutcomeUnknownError(Problem(title="Outcome unknown", detail=failure.detail))
    return UnreachableError(Problem(title="Service unreachable", detail=failure.detail))


def may_repeat(call: Call[T], error: ClientError) -> bool:
    """Return whether sending the call again after this error can only do good."""
    if isinstance(error, RetryLaterError):
        return True
    return isinstance(error, OutcomeUnknownError) and call.repeat is not Repeat.ONCE


def exchange(
    call: Call[T],
    policy: RetryPolicy,
    now: Callable[[], float],
    random: Callable[[], float],
    on_retry: Callable[[ClientError], None],
) -> Generator[Step, Answer, T]:
    """Carry out one call; ``now`` is a monotonic clock in seconds, ``on_retry`` hears of each error that is retried."""
    deadline = now() + policy.deadline_s
    attempt = 0
    while True:
        answer = yield Send(call.request, max(0.001, min(policy.timeout_s, deadline - now())))
        try:
            return _outcome(call, answer)
        except ClientError as error:
            wait_s = policy.wait_s(attempt, error, random())
            if attempt >= policy.retries or not may_repeat(call, error) or now() + wait_s >= deadline:
                raise
            on_retry(error)
        yield Wait(wait_s)
        attempt += 1


def _outcome(call: Call[T], answer: Answer) -> T:
    if isinstance(answer, Response):
        return read(call, answer)
    if isinstance(answer, Failure):
        raise failure_error(call, answer)
    raise TypeError("a Send is answered with a Response or a Failure")
