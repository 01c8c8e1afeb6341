"""What takes part in a benchmark of search: a running server with its rows, and the programs that put load on it.

Load comes from processes of their own that print one ``Measured`` as JSON; samples (moment, latency) go to a file.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.load import Measured
from benchmarks.search_data import Ids, cache
from benchmarks.workload import http_request

Samples = npt.NDArray[np.float64]

_START_TIMEOUT_S = 60.0


class UnavailableError(Exception):
    """A peer cannot be installed or started here; the message says why."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server that is up and holds the corpus.

    ``searching`` is a command, as ``inserting`` returns one; ``timing`` and ``pacing`` make their last arguments.
    """

    label: str
    """Name, version and effort, for the tables."""
    pid: int
    answers: Callable[[], Ids]
    """Returns the row numbers found for each query, (queries, k)."""
    searching: Sequence[str]
    inserting: Callable[[int], Sequence[str]]
    """Returns the command that has so many different rows to insert."""


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a program that puts load on a contestant."""
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> Measured:
    """Wait for what a program of load has measured; raises RuntimeError when it broke off."""
    output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a load generator broke off: {errors[-500:].decode(errors='replace')}")
    return msgspec.json.decode(output, type=Measured)


def timing(connections: int, duration_s: float, warm_up_s: float, samples: Path | None = None) -> list[str]:
    """Return the arguments of a closed loop of searches."""
    given = ["--connections", str(connections), "--seconds", str(duration_s), "--warm-up", str(warm_up_s)]
    return [*given, *(["--samples", str(samples)] if samples else [])]


def pacing(rate: float, duration_s: float, samples: Path) -> list[str]:
    """Return the arguments of inserts of one row each, so many per second."""
    return ["--rate", str(rate), "--seconds", str(duration_s), "--samples", str(samples)]


def read_samples(path: Path) -> Samples:
    """Return (n, 2) moments of ``time.monotonic`` and latencies, in seconds."""
    return np.fromfile(path, "<f8").reshape(-1, 2)


def over_http(url: str, requests: Iterable[bytes], place: Path) -> list[str]:
    """Return the command that sends these requests; ``place`` is the file that they are written to."""
    place.write_bytes(msgspec.msgpack.encode(list(requests)))
    return [sys.executable, "-m", "benchmarks.search_load", url, str(place)]


def post(url: str, path: str, bodies: Iterable[bytes], content_type: str, method: str = "POST") -> Iterator[bytes]:
    """Send one request after the other on one connection, and yield what is answered; raises RuntimeError."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)
    for body in bodies:
        connection.request(method, path, body, {"content-type": content_type})
        response = connection.getresponse()
        content = response.read()
        if response.status not in (http.client.OK, http.client.CREATED):
            raise RuntimeError(f"{method} {path}: {response.status} {content[:300]!r}")
        yield content
    connection.close()


def whole_requests(url: str, path: str, bodies: Iterable[bytes], content_type: str) -> Iterator[bytes]:
    """Yield whole HTTP requests with these bodies."""
    host = url.removeprefix("http://")
    return (http_request(host, path, content_type, body) for body in bodies)


def environment(name: str, packages: Sequence[str], bare_packages: Sequence[str] = ()) -> Path:
    """Return the Python of a peer's own environment in the cache folder, installed at the first call.

    ``bare_packages`` come without what they say they depend on. Only wheels are taken. Raises UnavailableError.
    """
    home = cache() / f"bench-{name}"
    python = home / "bin" / "python"
    wanted = "\n".join([*packages, *bare_packages])
    ready = home / ".ready"
    if ready.exists() and ready.read_text() == wanted:
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, capture_output=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--only-binary", ":all:"]
        if packages:
            subprocess.run([*pip, *packages], check=True, capture_output=True)
        if bare_packages:
            subprocess.run([*pip, "--no-deps", *bare_packages], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = (getattr(error, "stderr", b"") or b"")[-300:].decode(errors="replace")
        raise UnavailableError(f"{name} could not be installed: {error} {detail}") from error
    ready.write_text(wanted)
    return python


@contextmanager
def process(command: Sequence[str], log: Path, up: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; raises UnavailableError when it does not come up."""
    quiet = os.environ | {"RUST_LOG": "error", "ANONYMIZED_TELEMETRY": "False"}
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=quiet) as running:
        try:
            deadline = time.monotonic() + _START_TIMEOUT_S
            while not up():
                if running.poll() is not None or time.monotonic() > deadline:
                    raise UnavailableError(f"{command[0]} did not start: {log.read_text(errors='replace')[-500:]}")
                time.sleep(0.1)
            yield running
        finally:
            running.terminate()
