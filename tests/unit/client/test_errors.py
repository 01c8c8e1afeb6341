"""The error tree of the client, against that of the service."""

from __future__ import annotations

import copy
import inspect

import msgspec
import numpy as np
import pytest

import buffer_client.errors
import buffer_service.errors
from buffer_client import (
    AppendResult,
    ClientError,
    Experience,
    IncompleteAppendError,
    IncompleteStreamError,
    OutcomeUnknownError,
    RejectedError,
    RetryLaterError,
    ServerFaultError,
)
from buffer_client.errors import OverloadedError, Problem
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


def client_errors() -> list[ClientError]:
    """Return one error of each class, with what it carries."""
    problem = Problem(title="t", status=503, detail="why", code="c")
    given = (Experience(visual=[1.0], confidence=0.5),)
    special = [
        IncompleteAppendError(RetryLaterError(problem, 2.0), given),
        IncompleteStreamError(ValueError("no"), given, AppendResult(np.array([1, 2]), 9)),
    ]
    kinds = [member for _, member in inspect.getmembers(buffer_client.errors, inspect.isclass)]
    plain = [kind for kind in kinds if issubclass(kind, ClientError) and not issubclass(kind, IncompleteAppendError)]
    return [kind(problem, 2.0) for kind in plain] + special


@pytest.mark.parametrize("error", client_errors(), ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_on_the_other_side_of_a_process(error: ClientError) -> None:
    """Workers of a process pool and of a DataLoader raise it in the caller; copying is how it gets there."""
    other = copy.deepcopy(error)

    assert (type(other), str(other), other.problem, other.retry_after_s) == (
        type(error),
        str(error),
        error.problem,
        error.retry_after_s,
    )
    if isinstance(error, IncompleteAppendError):
        assert isinstance(other, IncompleteAppendError)
        assert type(other.cause) is type(error.cause)
        assert other.unacknowledged == error.unacknowledged
    if isinstance(error, IncompleteStreamError):
        assert isinstance(other, IncompleteStreamError)
        assert other.acknowledged.ids.tolist() == [1, 2]


def test_a_sentence_can_stand_for_the_problem() -> None:
    """PyTorch builds an error anew from what it would print."""
    assert OverloadedError("Caught OverloadedError in worker 0").detail == "Caught OverloadedError in worker 0"
