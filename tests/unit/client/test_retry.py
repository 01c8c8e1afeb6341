"""The retry policy: a fake clock drives the exchange, nobody sleeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from buffer_client import OutcomeUnknownError, RejectedError, ServerFaultError, calls
from buffer_client.errors import BacklogError, ClientError, Problem, StorageFullError, UnreachableError
from buffer_client.retry import Answer, Failure, RetryPolicy, Send, exchange
from buffer_client.wire import Call, Response

READ = calls.get(1)
APPEND = calls.append([])
ONCE = calls.remove(1)

FOUND = Response(200, {}, b'{"id": 1, "sequence": 7}')
APPENDED = Response(201, {}, b'{"ids": [], "sequence": 5}')
REFUSED = Failure("connection refused", sent=False)
BROKEN = Failure("connection broke", sent=True)


def problem(status: int, code: str, retry_after: str | None = None) -> Response:
    """Return a problem document."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return Response(status, headers, msgspec.json.encode({"status": status, "code": code}))


@dataclass
class Network:
    """Answers in turn, the last one for ever; time passes only in waits and by ``latency_s`` per attempt."""

    answers: list[Answer]
    latency_s: float = 0.0
    now_s: float = 100.0
    sent: list[Send] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    retried: list[ClientError] = field(default_factory=list)

    def run(
        self, call: Call[Any], policy: RetryPolicy | None = None, random: Callable[[], float] = lambda: 0.0
    ) -> object:
        """Drive one exchange to its end."""
        steps = exchange(call, policy or RetryPolicy(), lambda: self.now_s, random, self.retried.append)
        answer: Answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as done:
                return done.value
            if isinstance(step, Send):
                self.sent.append(step)
                self.now_s += self.latency_s
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            else:
                self.waits.append(step.seconds)
                self.now_s += step.seconds
                answer = None


@pytest.mark.parametrize("call", [READ, APPEND, ONCE])
def test_what_was_not_sent_is_sent_again(call: Call[Any]) -> None:
    """A refused connection has changed nothing, whatever the call."""
    network = Network([REFUSED, APPENDED if call is APPEND else FOUND])

    network.run(call)

    assert len(network.sent) == 2
    assert [type(error) for error in network.retried] == [UnreachableError]


@pytest.mark.parametrize("code", ["outcome-unknown", None])
def test_an_unknown_outcome_is_repeated_only_where_a_repetition_is_harmless(code: str | None) -> None:
    """Appends carry client ids; a removal would be told that the experience is gone."""
    unknown: Answer = BROKEN if code is None else problem(503, code)

    repeated = Network([unknown, APPENDED])
    repeated.run(APPEND)
    assert len(repeated.sent) == 2

    once = Network([unknown, FOUND])
    with pytest.raises(OutcomeUnknownError):
        once.run(ONCE)
    assert len(once.sent) == 1


def test_a_repetition_sends_the_very_same_bytes() -> None:
    """Else the client_id would not match its content."""
    network = Network([BROKEN, problem(429, "backlog"), APPENDED])

    network.run(APPEND)

    assert len({step.request.body for step in network.sent}) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (problem(422, "invalid-request"), RejectedError),
        (problem(404, "unknown-experience"), RejectedError),
        (problem(500, "internal"), ServerFaultError),
        (problem(503, "corrupt-store"), ServerFaultError),
        (Response(200, {}, b"<html>"), ServerFaultError),
    ],
)
def test_what_sending_again_cannot_mend_is_raised_at_once(answer: Response, expected: type[ClientError]) -> None:
    """The caller, or an operator, has to act."""
    network = Network([answer])

    with pytest.raises(expected):
        network.run(READ)

    assert len(network.sent) == 1


@pytest.mark.parametrize(
    ("status", "code", "expected"), [(429, "backlog", BacklogError), (507, "storage-full", StorageFullError)]
)
def test_back_pressure_is_waited_out_and_raised_when_it_lasts(
    status: int, code: str, expected: type[ClientError]
) -> None:
    """As many attempts as configured, and the service's own error at the end."""
    network = Network([problem(status, code, "0")])

    with pytest.raises(expected):
        network.run(APPEND, RetryPolicy(retries=3))

    assert len(network.sent) == 4


def test_back_off_doubles_up_to_its_bound() -> None:
    """The jitter is at its smallest here: half of the nominal pause."""
    network = Network([REFUSED])

    with pytest.raises(UnreachableError):
        network.run(READ, RetryPolicy(retries=5, backoff_first_s=0.2, backoff_max_s=1.0))

    assert network.waits == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_jitter_spreads_pauses_between_half_and_all() -> None:
    """Clients that failed together must not come back together."""
    policy = RetryPolicy(backoff_first_s=1.0)
    error = UnreachableError(Problem())

    assert [policy.wait_s(0, error, random) for random in (0.0, 0.5, 1.0)] == pytest.approx([0.5, 0.75, 1.0])


def test_retry_after_is_honoured_up_to_a_cap() -> None:
    """A service may ask for more than the back-off, but not for an hour."""
    network = Network([problem(503, "overloaded", "3"), problem(503, "overloaded", "3600"), FOUND])

    network.run(READ, RetryPolicy(retry_after_max_s=10.0))

    assert network.waits == [3.0, 10.0]


def test_no_attempt_begins_after_the_deadline() -> None:
    """The error in hand is raised rather than waited upon in vain."""
    network = Network([problem(503, "overloaded", "4")], latency_s=1.0)

    with pytest.raises(ClientError):
        network.run(READ, RetryPolicy(deadline_s=12.0, retries=100))

    assert network.now_s <= 112.0
    assert len(network.sent) == 3


def test_an_attempt_is_given_no_more_time_than_is_left() -> None:
    """The last attempt of a call is cut to the deadline."""
    network = Network([REFUSED, FOUND], latency_s=8.0)

    network.run(READ, RetryPolicy(timeout_s=10.0, deadline_s=12.0))

    assert [step.timeout_s for step in network.sent] == [10.0, pytest.approx(4.0, abs=0.1)]


@pytest.mark.parametrize("random", [0.0, 0.5, 0.99])
def test_the_pause_is_never_shorter_than_the_service_asks(random: float) -> None:
    """Whatever the jitter."""
    network = Network([problem(429, "backlog", "2"), FOUND])

    network.run(READ, random=lambda: random)

    assert network.waits[0] >= 2.0
