"""The last question before something is changed over HTTP: may this process still write?

It is asked when the connection stands and before the first byte is sent, with nothing awaited in between: a process
that was stopped while it connected, or while it waited for a free connection, does not write when it goes on.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final

import aiohttp

Fence = Callable[[], None]
"""Raises NotLeadingError where this process must not write."""

_READING: Final = frozenset({"GET", "HEAD"})


def no_fence() -> None:
    """Let everything pass."""


class FencedConnector(aiohttp.TCPConnector):
    """Connections over which requests that change something are sent only while the fence lets them."""

    def __init__(self, fence: Fence, ssl_context: ssl.SSLContext | bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        super().__init__(limit=0, ssl=ssl_context)  # no limit: each watch holds a connection for good
        self._fence = fence

    async def connect(self, req: aiohttp.ClientRequest, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - aiohttp's
        """Connect, then ask the fence; raises as both do."""
        connection = await super().connect(req, *arguments, **named)
        if req.method not in _READING:
            try:
                self._fence()
            except BaseException:
                connection.release()
                raise
        return connection
