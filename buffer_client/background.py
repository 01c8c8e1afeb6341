"""Appending beside the caller's own work: experiences are put into a bounded backlog, and a thread sends them.

The thread belongs to the appender; it alone sends, and it ends in ``close``. All other methods may be called from any
thread. State is guarded by one condition.
"""

from __future__ import annotations

import atexit
from threading import Condition, Thread
from types import TracebackType
from typing import Self

from buffer_client.backlog import BACKLOG_BYTES, BACKLOG_ROWS, Backlog
from buffer_client.client import BufferClient
from buffer_client.models import Experience
from buffer_client.stream import CHUNK_BYTES, CHUNK_ROWS, Bounds

CLOSED = "the appender is closed"


class BackgroundAppender:
    """Appends what it is given, in order, all that waits in one request; what is held is bounded in rows and bytes.

    Nothing is dropped silently: what was not acknowledged, after the client's own retries, comes back with an
    IncompleteAppendError from the next ``put``, ``flush`` or ``close``; the appender can then be used on. What
    has been flushed is found by the searches of ``client``, as after its own ``append``. At the end of the process an
    appender that was not closed is closed.
    """

    def __init__(
        self,
        client: BufferClient,
        *,
        rows_max: int = BACKLOG_ROWS,
        bytes_max: int = BACKLOG_BYTES,
        chunk_rows: int = CHUNK_ROWS,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._client = client
        self._backlog = Backlog(Bounds(rows_max, bytes_max), Bounds(chunk_rows, chunk_bytes))
        self._changed = Condition()
        self._closing = False
        self._thread = Thread(target=self._work, name="xbuf-append", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return how many experiences are not acknowledged yet."""
        with self._changed:
            return self._backlog.rows

    def put(self, experience: Experience, timeout_s: float | None = None) -> None:
        """Take one experience, waiting for room; it is durable after the next ``flush``, not before.

        Raises AppenderFullError when ``timeout_s`` has passed, IncompleteAppendError for earlier ones, with this one
        at the end of ``unacknowledged``; and what is wrong with this very one: ValueError, TypeError, TooLargeError,
        ConflictError.
        """
        encoded = self._backlog.encode(experience)
        with self._changed:
            ready = self._changed.wait_for(
                lambda: self._closing or self._backlog.has_failed or self._backlog.has_room(encoded), timeout_s
            )
            if self._closing:
                raise RuntimeError(CLOSED)
            if self._backlog.has_failed:
                raise self._backlog.hand_over([experience])
            if not ready:
                raise self._backlog.full_error()
            self._backlog.put(encoded)
            self._changed.notify_all()

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all that was put before is durable.

        Raises IncompleteAppendError for what was not acknowledged, FlushTimeoutError when ``timeout_s`` has passed.
        """
        with self._changed:
            ticket, failures = self._backlog.ticket, self._backlog.failures

            def failed() -> bool:
                return self._backlog.has_failed or self._backlog.failures != failures

            done = self._changed.wait_for(lambda: failed() or self._backlog.is_settled(ticket), timeout_s)
            if failed():
                raise self._backlog.hand_over()
            if not done:
                raise self._backlog.flush_error()

    def close(self) -> None:
        """Send what waits and end the thread; no more can be put. Raises IncompleteAppendError as ``flush`` does.

        Takes no longer than the requests for what waits, and after a failure no longer than that one.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        atexit.unregister(self.close)
        if self._backlog.has_failed:
            raise self._backlog.hand_over()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._backlog.has_waiting)
                chunk = self._backlog.take()
            if not chunk:
                return
            failure: Exception | None = None
            try:
                self._client.append_encoded(chunk)
            except Exception as error:  # noqa: BLE001 - handed to the caller, whatever it is
                failure = error
            with self._changed:
                if failure is None:
                    self._backlog.acknowledge()
                else:
                    self._backlog.fail(failure)
                self._changed.notify_all()
