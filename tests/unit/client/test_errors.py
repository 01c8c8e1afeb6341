"""The error tree of the client, against that of the service."""

from __future__ import annotations

import inspect

import msgspec
import pytest

import buffer_client.errors
import buffer_service.errors
from buffer_client import ClientError, OutcomeUnknownError, RejectedError, RetryLaterError, ServerFaultError
from buffer_client.wire import Response, error_from


def service_errors() -> list[type[buffer_service.errors.ExperienceBufferError]]:
    """Return every error class of the service."""
    members = [member for _, member in inspect.getmembers(buffer_service.errors, inspect.isclass)]
    return [member for member in members if issubclass(member, buffer_service.errors.ExperienceBufferError)]


def answer(error: type[buffer_service.errors.ExperienceBufferError]) -> Response:
    """Return the problem document of an error of the service."""
    problem = {"type": "about:blank", "title": error.title, "status": error.http_status, "detail": "why"}
    return Response(error.http_status, {}, msgspec.json.encode({**problem, "code": error.code}))


@pytest.mark.parametrize("error", service_errors(), ids=lambda error: error.__name__)
def test_each_error_of_the_service_asks_the_same_of_the_caller_here(
    error: type[buffer_service.errors.ExperienceBufferError],
) -> None:
    """The branches of both trees are the answers to 'what do I do next'."""
    branches: list[tuple[type[Exception], type[ClientError]]] = [
        (buffer_service.errors.RejectedError, RejectedError),
        (buffer_service.errors.RetryLaterError, RetryLaterError),
        (buffer_service.errors.OutcomeUnknownError, OutcomeUnknownError),
        (buffer_service.errors.ExperienceBufferError, ServerFaultError),
    ]
    expected = next(mine for theirs, mine in branches if issubclass(error, theirs))

    raised = error_from(answer(error))

    assert isinstance(raised, expected)
    assert (raised.code, raised.title, raised.status, raised.detail) == (
        error.code,
        error.title,
        error.http_status,
        "why",
    )
    assert str(raised) == "why"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "RejectedError"),
        (401, "UnauthorizedError"),
        (418, "RejectedError"),
        (500, "ServerFaultError"),
        (502, "OutcomeUnknownError"),
        (503, "RetryLaterError"),
        (504, "OutcomeUnknownError"),
        (507, "StorageFullError"),
    ],
)
def test_an_answer_without_a_problem_document_is_judged_by_its_status(status: int, expected: str) -> None:
    """Proxies answer in their own words."""
    raised = error_from(Response(status, {}, b"<html>Bad gateway</html>"))

    assert type(raised).__name__ == expected
    assert raised.status == status
    assert str(status) in str(raised)


def test_retry_later_always_says_after_how_long() -> None:
    """The header counts, and where it is absent or a date, a second."""
    busy = {"status": 503, "code": "overloaded"}
    waits = [
        error_from(Response(503, headers, msgspec.json.encode(busy))).retry_after_s
        for headers in ({"retry-after": "7"}, {}, {"retry-after": "Sat, 21 Nov 2026 02:00:00 GMT"})
    ]

    assert waits == [7.0, 1.0, 1.0]


def test_the_docstring_draws_every_error_below_its_base() -> None:
    """The tree on top of the module is the truth."""
    drawn = [
        line for line in (buffer_client.errors.__doc__ or "").splitlines() if "──" in line or line == "ClientError"
    ]
    names = {line.strip("│├└─ ").split()[0] for line in drawn}
    classes = {
        name
        for name, member in inspect.getmembers(buffer_client.errors, inspect.isclass)
        if issubclass(member, ClientError)
    }

    assert names == classes
