"""Output that holds up nothing: where nobody takes it (a full device, a pipe that is not read) it is dropped.

Log records go through a bounded queue to one thread, which writes them past Python's own locks and buffers: whoever
exits does not wait for a thread that is stuck in a write.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import queue
import sys
import threading
from collections.abc import Iterator

FORMAT = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"
_WAITING_MAX = 10_000
_DRAIN_TIMEOUT_S = 1.0


class _Background(logging.handlers.QueueHandler):
    """Formats where the record is made, writes on a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        self._lines: queue.Queue[logging.LogRecord | None] = queue.Queue(_WAITING_MAX)
        super().__init__(self._lines)
        self._descriptor = descriptor
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        """Pass the record on, or drop it."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(record)

    def drain(self) -> None:
        """Write what waits, unless that takes long."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_DRAIN_TIMEOUT_S)
            self._thread.join(_DRAIN_TIMEOUT_S)

    def _write_all(self) -> None:
        while (record := self._lines.get()) is not None:
            _write(self._descriptor, record.getMessage())


@contextlib.contextmanager
def in_background() -> Iterator[None]:
    """Log to standard error through the queue; in the end what waits is written, for at most about a second."""
    root = logging.getLogger()
    before = root.handlers[:]
    handler = _Background(sys.stderr.fileno())
    handler.setFormatter(logging.Formatter(FORMAT))
    root.handlers = [handler]
    try:
        yield
    finally:
        root.handlers = before
        handler.drain()


def say(line: str) -> None:
    """Write a line to standard output without waiting for whoever reads it."""
    threading.Thread(target=_write, args=(sys.stdout.fileno(), line), name="say", daemon=True).start()


def _write(descriptor: int, line: str) -> None:
    data = f"{line}\n".encode(errors="backslashreplace")
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]
