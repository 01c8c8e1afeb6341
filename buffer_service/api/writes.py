"""From the event loop to the writer: the writes of one turn of the loop are put at once, so that they share a group."""

from __future__ import annotations

import asyncio
from typing import Any

from buffer_service.core.write import Write
from buffer_service.core.writer import Writer
from buffer_service.errors import OverloadedError


class Writes:
    """What was decoded in this turn of the loop. On the loop only."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._gathered: list[Write[Any]] = []

    def put(self, write: Write[Any]) -> None:
        """Put it to the writer when this turn is over; its future gets OverloadedError where there is no room."""
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self.put_all)
        self._gathered.append(write)

    def put_all(self) -> None:
        """Put what was gathered to the writer now: the turn is over, or what comes next in it takes long."""
        gathered, self._gathered = self._gathered, []
        for write in gathered:
            try:
                self._writer.put(write)
            except OverloadedError as error:
                write.fail(error)
                write.answer()
