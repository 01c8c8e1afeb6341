"""The background appender for asyncio: the same as ``BackgroundAppender``, awaited; for use in one event loop."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from buffer_client.aio import AsyncBufferClient
from buffer_client.background import CLOSED
from buffer_client.backlog import BACKLOG_BYTES, BACKLOG_ROWS, Backlog
from buffer_client.models import Experience
from buffer_client.stream import CHUNK_BYTES, CHUNK_ROWS, Bounds


class AsyncBackgroundAppender:
    """Appends what it is given, in order, by a task of its own; to be used with ``async with``.

    What it promises is what ``BackgroundAppender`` promises, except at the end of the process: a loop that ends before
    ``aclose`` takes the task with it.
    """

    def __init__(
        self,
        client: AsyncBufferClient,
        *,
        rows_max: int = BACKLOG_ROWS,
        bytes_max: int = BACKLOG_BYTES,
        chunk_rows: int = CHUNK_ROWS,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._client = client
        self._backlog = Backlog(Bounds(rows_max, bytes_max), Bounds(chunk_rows, chunk_bytes))
        self._changed = asyncio.Condition()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work(), name="xbuf-append")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __len__(self) -> int:
        """Return how many experiences are not acknowledged yet."""
        return self._backlog.rows

    async def put(self, experience: Experience, timeout_s: float | None = None) -> None:
        """Take one experience, waiting for room; it is durable after the next ``flush``, not before.

        Raises AppenderFullError when ``timeout_s`` has passed, IncompleteAppendError for earlier ones, with this one
        at the end of ``unacknowledged``; and what is wrong with this very one: ValueError, TypeError, TooLargeError,
        ConflictError.
        """
        encoded = self._backlog.encode(experience)
        async with self._changed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait_for(
                        lambda: self._ended or self._backlog.has_failed or self._backlog.has_room(encoded)
                    )
            except TimeoutError:
                raise self._backlog.full_error() from None
            if self._ended:
                raise RuntimeError(CLOSED)
            if self._backlog.has_failed:
                raise self._backlog.hand_over([experience])
            self._backlog.put(encoded)
            self._changed.notify_all()

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all that was put before is durable.

        Raises IncompleteAppendError for what was not acknowledged, FlushTimeoutError when ``timeout_s`` has passed.
        """
        async with self._changed:
            ticket, failures = self._backlog.ticket, self._backlog.failures

            def failed() -> bool:
                return self._backlog.has_failed or self._backlog.failures != failures

            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait_for(lambda: failed() or self._backlog.is_settled(ticket))
            except TimeoutError:
                raise self._backlog.flush_error() from None
            if failed():
                raise self._backlog.hand_over()

    async def aclose(self) -> None:
        """Send what waits and end the task; no more can be put. Raises IncompleteAppendError as ``flush`` does."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._task is not None:
            await self._task
        if self._backlog.has_failed:
            raise self._backlog.hand_over()

    @property
    def _ended(self) -> bool:
        """Nobody would send what is put."""
        return self._closing or self._task is None or self._task.done()

    async def _work(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._closing or self._backlog.has_waiting)
                chunk = self._backlog.take()
            if not chunk:
                return
            failure: Exception | None = None
            try:
                await self._client.append_encoded(chunk)
            except Exception as error:  # noqa: BLE001 - handed to the caller, whatever it is
                failure = error
            async with self._changed:
                if failure is None:
                    self._backlog.acknowledge()
                else:
                    self._backlog.fail(failure)
                self._changed.notify_all()
