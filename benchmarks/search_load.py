"""The load generator of the benchmarks of search: prepared HTTP requests on kept connections, from one thread.

Closed loop: each connection sends its next request when it has its answer. At a rate: requests are due by the clock,
and a latency counts from when the request was due, so that a server that stalls is not spared. The requests come from a
file, so that one program drives every server that speaks HTTP. Prints one JSON object; run as a process of its own.
"""

from __future__ import annotations

import argparse
import select
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.load import Connection, Measured

_EXPECTED = (b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")
_CONNECTIONS_AT_RATE = 16
_DEADLINE_S = 30.0


@dataclass(slots=True)
class Taken:
    """What was measured: moments of ``time.monotonic``, which all processes of a machine share, and latencies."""

    began: float
    ends: float
    moments: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    kept: list[tuple[int, bytes]] = field(default_factory=list)
    """Numbers of requests with their answers."""

    def measured(self, cpu_s: float, warm_up_s: float) -> Measured:
        """Sum it up."""
        duration_s = self.ends - self.began
        p50_ms, p99_ms = 1000 * np.percentile(self.latencies or [np.inf], [50, 99])
        rate = len(self.latencies) / duration_s
        return Measured(rate, float(p50_ms), float(p99_ms), self.refused, cpu_s / (duration_s + warm_up_s))

    def write(self, path: Path) -> None:
        """Write the samples: raw float64, moment and latency in seconds in turn."""
        np.column_stack([self.moments, self.latencies]).astype("<f8").tofile(path)


class Generator:
    """Sends the requests of a file, over and over; ``keep_every`` so many answers one is kept whole."""

    def __init__(self, url: str, requests: list[bytes], connections: int, keep_every: int) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._requests = cycle(enumerate(requests))
        self._keep_every = keep_every
        self._epoll = select.epoll()
        self._numbers: dict[int, int] = {}
        self._due: dict[int, float] = {}
        self._connections = {}
        self._answered = 0
        for _ in range(connections):
            connection = Connection(host, int(port))
            self._connections[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket, select.EPOLLIN)

    def closed_loop(self, duration_s: float, warm_up_s: float) -> Taken:
        """Keep every connection busy; what is answered in the warm-up does not count. SIGTERM ends it early."""
        taken = _lasting(duration_s, warm_up_s)
        for descriptor in self._connections:
            self._send(descriptor, time.monotonic())
        while self._due:
            for descriptor, answer in self._answers(_DEADLINE_S):
                now = self._note(taken, descriptor, answer)
                if now < taken.ends:
                    self._send(descriptor, now)
        return taken

    def at_rate(self, rate: float, duration_s: float) -> Taken:
        """Send so many requests per second; one that finds no free connection waits, and its latency grows by that."""
        taken = _lasting(duration_s, 0.0)
        free, number = list(self._connections), 0
        while True:
            now = time.monotonic()
            sending = now < taken.ends
            if not sending and not self._due:
                return taken
            while sending and free and taken.began + number / rate <= now:
                self._send(free.pop(), taken.began + number / rate)
                number += 1
            timeout_s = taken.began + number / rate - now if sending and free else _DEADLINE_S
            for descriptor, answer in self._answers(max(0.0, timeout_s)):
                self._note(taken, descriptor, answer)
                free.append(descriptor)

    def _send(self, descriptor: int, due: float) -> None:
        number, request = next(self._requests)
        self._numbers[descriptor], self._due[descriptor] = number, due
        self._connections[descriptor].send(request)

    def _note(self, taken: Taken, descriptor: int, answer: bytes) -> float:
        now = time.monotonic()
        due = self._due.pop(descriptor)
        self._answered += 1
        if self._keep_every and self._answered % self._keep_every == 0:
            taken.kept.append((self._numbers[descriptor], answer))
        if taken.began <= now < taken.ends:
            if answer.startswith(_EXPECTED):
                taken.moments.append(now)
                taken.latencies.append(now - due)
            else:
                taken.refused += 1
        return now

    def _answers(self, timeout_s: float) -> Iterator[tuple[int, bytes]]:
        events = self._epoll.poll(timeout_s)
        if not events and timeout_s >= _DEADLINE_S:
            raise TimeoutError(f"no answer within {_DEADLINE_S:.0f} s")
        for descriptor, _ in events:
            answer = self._connections[descriptor].receive()
            if answer is not None:
                yield descriptor, answer


def _lasting(duration_s: float, warm_up_s: float) -> Taken:
    began = time.monotonic() + warm_up_s
    taken = Taken(began, began + duration_s)

    def end_now(*_: object) -> None:
        taken.ends = time.monotonic()

    signal.signal(signal.SIGTERM, end_now)
    return taken


def main() -> None:
    """Run one slice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("requests", type=Path, help="a MessagePack list of whole HTTP requests")
    parser.add_argument("--connections", type=int, default=_CONNECTIONS_AT_RATE)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, default=0.0)
    parser.add_argument("--rate", type=float, help="requests per second; without it a closed loop")
    parser.add_argument("--samples", type=Path, help="where moments and latencies go")
    parser.add_argument("--keep-every", type=int, default=0, help="one of so many answers is kept in SAMPLES.kept")
    given = parser.parse_args()
    requests = msgspec.msgpack.decode(given.requests.read_bytes(), type=list[bytes])
    generator = Generator(given.url, requests, given.connections, given.keep_every)
    cpu_began = time.process_time()
    if given.rate is None:
        taken = generator.closed_loop(given.seconds, given.warm_up)
    else:
        taken = generator.at_rate(given.rate, given.seconds)
    measured = taken.measured(time.process_time() - cpu_began, given.warm_up)
    if given.samples is not None:
        taken.write(given.samples)
        given.samples.with_suffix(".kept").write_bytes(msgspec.msgpack.encode(taken.kept))
    sys.stdout.buffer.write(msgspec.json.encode(measured) + b"\n")


if __name__ == "__main__":
    main()
