"""Answers that are streamed while the buffer goes on: backups and exports, begun at one moment, read part by part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fastapi import Response
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from buffer_service.errors import OverloadedError

STALL_TIMEOUT_S = 60.0
"""A caller that takes nothing for so long is cut off, for what a download holds on to costs disk space."""


@dataclass(frozen=True, slots=True)
class Download:
    """What is sent: all of one moment."""

    sequence: int
    parts: Generator[bytes]
    """None of them empty."""


class Downloads:
    """One download of a kind at a time, on a thread of its own; called on the event loop's thread."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=kind)
        self._running = False

    async def answer(self, begin: Callable[[], Download], media_type: str) -> Response:
        """Begin on the thread and return the answer; raises OverloadedError while another one is under way."""
        if self._running:
            raise OverloadedError(f"another {self._kind} is under way; try again when it is done")
        self._running = True
        try:
            download = await asyncio.get_running_loop().run_in_executor(self._thread, begin)
        except BaseException:
            self._running = False
            raise
        return _DownloadAnswer(self, download, media_type)

    async def next_part(self, parts: Generator[bytes]) -> bytes:
        """Return the next part, empty at the end."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, next, parts, b"")

    def ended(self, parts: Generator[bytes]) -> None:
        """Release what the download held, after what the thread may still be doing for it."""
        self._thread.submit(parts.close)
        self._running = False

    def close(self) -> None:
        """Finish what runs."""
        self._thread.shutdown()


class _DownloadAnswer(StreamingResponse):
    """An answer that is cut off, not ended, when anything goes wrong."""

    def __init__(self, downloads: Downloads, download: Download, media_type: str) -> None:
        super().__init__((), headers={"x-sequence": str(download.sequence)}, media_type=media_type)
        self._downloads = downloads
        self._parts = download.parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._downloads.ended(self._parts)

    async def stream_response(self, send: Send) -> None:
        """Send all parts, each within the stall timeout."""

        async def bounded(message: Message) -> None:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await send(message)

        await bounded({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while part := await self._downloads.next_part(self._parts):
            await bounded({"type": "http.response.body", "body": part, "more_body": True})
        await bounded({"type": "http.response.body", "body": b"", "more_body": False})
