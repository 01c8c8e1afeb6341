"""A buffer service of the demo's own: a child process with the embedded defaults, ended with the demo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buffer_service.contract.names import HTTP_PORT
from buffer_service.demo.digits import DIMENSION

LOG_FILE = "service.log"
_LISTENING = "listening on "
_STOP_TIMEOUT_S = 20.0
_REBUILD_EVERY = "300"
_LOG_LINES = 5


class ServiceFailedError(Exception):
    """The service did not start; the message holds the end of its log."""


@contextmanager
def running_service(folder: Path, port: int | None) -> Iterator[str]:
    """Run a service on this folder and yield its URL; without a port the usual one is taken if it is free."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "XBUF_REBUILD__EVERY_OPERATIONS": _REBUILD_EVERY,
        **os.environ,
        "XBUF_EMBEDDING__DIMENSION": str(DIMENSION),
    }
    chosen = _usual_or_free_port() if port is None else port
    command = [sys.executable, "-m", "buffer_service.cli", "serve", "--data", str(folder), "--port", str(chosen)]
    log = folder / LOG_FILE
    with (
        log.open("w") as errors,
        # A session of its own: Ctrl-C reaches the demo alone, which then ends the service in order.
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        ) as process,
    ):
        try:
            yield _url(process, log)
        finally:
            _stop(process)


def _url(process: subprocess.Popen[str], log: Path) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line.startswith(_LISTENING):
        tail = "\n".join(log.read_text().splitlines()[-_LOG_LINES:])
        raise ServiceFailedError(f"the buffer service did not start:\n{tail}")
    return line.removeprefix(_LISTENING).strip()


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _usual_or_free_port() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", HTTP_PORT))
        except OSError:
            return 0
    return HTTP_PORT
