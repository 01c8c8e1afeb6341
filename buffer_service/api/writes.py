"""From the event loop to the writer: what has arrived by now is put at once, so that it shares a group.

A writer that has begun with a part works beside the loop, which reads the rest, and each waits for the other's hold of
the interpreter's lock.
"""

from __future__ import annotations

import asyncio
from typing import Any

from buffer_service.core.turn import Turn
from buffer_service.core.write import Write
from buffer_service.core.writer import Writer
from buffer_service.errors import OverloadedError

_TOGETHER_MAX = 64
"""Writes for more of which nobody looks."""


class Writes:
    """What was decoded and not put yet. On the loop only."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._turn: Turn[Write[Any]] = Turn(self._put_together, _TOGETHER_MAX)

    def put(self, write: Write[Any]) -> None:
        """Put it to the writer when no more come; its future gets OverloadedError where there is no room."""
        self._turn.add(write, asyncio.get_running_loop())

    def put_all(self) -> None:
        """Put what was gathered to the writer now: no more come, or what the loop does next takes long."""
        self._turn.end()

    def _put_together(self, writes: list[Write[Any]]) -> None:
        for write in writes:
            try:
                self._writer.put(write)
            except OverloadedError as error:
                write.fail(error)
                write.answer()
