"""A lean closed-loop load generator: N keep-alive connections with one request under way on each.

A process of its own with one thread, so that it takes its share of the cores the same way beside every server. Requests
are built before, answers are read only as far as their status and length. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec
import numpy as np

from benchmarks.workload import append_requests, search_requests

_KINDS = {"append": (append_requests, b"HTTP/1.1 201 "), "search": (search_requests, b"HTTP/1.1 200 ")}
_LENGTH = b"content-length: "
_TIMEOUT_S = 30.0


class Measured(msgspec.Struct):
    """One slice of load."""

    rate: float
    """Requests answered as expected, per second."""
    p50_ms: float
    p99_ms: float
    refused: int
    """Requests answered otherwise."""
    busy: float
    """Share of one core that the generator itself took."""


class Connection:
    """A kept connection with at most one request under way."""

    __slots__ = ("part", "sent_at", "socket")

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.part = b""
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        """Send a whole request."""
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """Return an answer once it is whole."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        if self.part:
            data = self.part + data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            start = data.find(_LENGTH, 0, end) + len(_LENGTH)
            if len(data) >= end + 4 + int(data[start : data.find(b"\r\n", start)]):
                self.part = b""
                return data
        self.part = data
        return None


class Load:
    """Connections to one server, kept for all its slices."""

    def __init__(self, host: str, port: int, connections: int) -> None:
        self._epoll = select.epoll()
        self._connections = {}
        for _ in range(connections):
            connection = Connection(host, port)
            self._connections[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket, select.EPOLLIN)

    def drive(self, requests: Iterator[bytes], expected: bytes, duration_s: float, warm_up_s: float) -> Measured:
        """Keep every connection busy; what is answered in the warm-up does not count."""
        latencies: list[float] = []
        refused = 0
        for connection in self._connections.values():
            connection.send(next(requests))
        began = time.perf_counter() + warm_up_s
        cpu_began = time.process_time()
        ends = began + duration_s
        waiting = len(self._connections)
        while waiting:
            for connection, answer in self._answers():
                now = time.perf_counter()
                if began <= now < ends:
                    if answer.startswith(expected):
                        latencies.append(now - connection.sent_at)
                    else:
                        refused += 1
                if now < ends:
                    connection.send(next(requests))
                else:
                    waiting -= 1
        busy = (time.process_time() - cpu_began) / (duration_s + warm_up_s)
        p50_ms, p99_ms = 1000 * np.percentile(latencies or [np.inf], [50, 99])
        return Measured(len(latencies) / duration_s, float(p50_ms), float(p99_ms), refused, busy)

    def _answers(self) -> Iterator[tuple[Connection, bytes]]:
        events = self._epoll.poll(_TIMEOUT_S)
        if not events:
            raise TimeoutError(f"no answer within {_TIMEOUT_S:.0f} s")
        for descriptor, _ in events:
            connection = self._connections[descriptor]
            answer = connection.receive()
            if answer is not None:
                yield connection, answer


def start(url: str, kind: str, connections: int, duration_s: float, warm_up_s: float = 0.3) -> subprocess.Popen[bytes]:
    """Start a slice of load as a process; ``finish`` waits for it."""
    command = [sys.executable, "-m", "benchmarks.load", url, kind, str(connections), str(duration_s), str(warm_up_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> Measured:
    """Return what a slice measured; raises CalledProcessError when it broke off."""
    output, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return msgspec.json.decode(output, type=Measured)


def main() -> None:
    """Run one slice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("kind", choices=sorted(_KINDS))
    parser.add_argument("connections", type=int)
    parser.add_argument("duration_s", type=float)
    parser.add_argument("warm_up_s", type=float)
    given = parser.parse_args()
    host, _, port = given.url.removeprefix("http://").partition(":")
    needed = given.connections + 64
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(needed, min(most, 4096)), most))
    build, expected = _KINDS[given.kind]
    load = Load(host, int(port), given.connections)
    measured = load.drive(build(host), expected, given.duration_s, given.warm_up_s)
    sys.stdout.buffer.write(msgspec.json.encode(measured) + b"\n")


if __name__ == "__main__":
    main()
