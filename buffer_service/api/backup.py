"""POST /v1/admin/backup: the answer is a backup, streamed while the buffer goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

from fastapi import Response
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.errors import OverloadedError
from buffer_service.storage.backup import stream

STALL_TIMEOUT_S = 60.0
"""A caller that takes nothing for so long is cut off, for what a backup holds on to costs disk space."""


class Backups:
    """One backup at a time, on a thread of its own; called on the event loop's thread."""

    def __init__(self, buffer: ExperienceBuffer) -> None:
        self._buffer = buffer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="backup")
        self._running = False

    async def answer(self) -> Response:
        """Take the moment and return the answer; raises OverloadedError while another backup is under way."""
        if self._running:
            raise OverloadedError("another backup is under way; try again when it is done")
        self._running = True
        try:
            source = await asyncio.get_running_loop().run_in_executor(self._thread, self._buffer.backup)
        except BaseException:
            self._running = False
            raise
        return _BackupAnswer(self, source.sequence, stream(source))

    async def next_part(self, parts: Generator[bytes]) -> bytes:
        """Return the next part, empty at the end."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, next, parts, b"")

    def ended(self, parts: Generator[bytes]) -> None:
        """Release what the backup held, after what the thread may still be doing for it."""
        self._thread.submit(parts.close)
        self._running = False

    def close(self) -> None:
        """Finish what runs."""
        self._thread.shutdown()


class _BackupAnswer(StreamingResponse):
    """An answer that is cut off, not ended, when anything goes wrong."""

    media_type = "application/x-tar"

    def __init__(self, backups: Backups, sequence: int, parts: Generator[bytes]) -> None:
        super().__init__((), headers={"x-sequence": str(sequence)})
        self._backups = backups
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._backups.ended(self._parts)

    async def stream_response(self, send: Send) -> None:
        """Send all parts, each within the stall timeout."""

        async def bounded(message: Message) -> None:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await send(message)

        await bounded({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while part := await self._backups.next_part(self._parts):
            await bounded({"type": "http.response.body", "body": part, "more_body": True})
        await bounded({"type": "http.response.body", "body": b"", "more_body": False})
