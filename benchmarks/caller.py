"""A caller that takes little of the cores from what is measured beside it."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from buffer_service.api.messages import MESSAGE_PACK


class Caller:
    """One kept connection; a call takes a fraction of the processor time that a client's does."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)

    def call(self, method: str, path: str, body: bytes = b"", content_type: str = MESSAGE_PACK) -> bytes:
        """Return the body of the answer, in the request's content type; raises RuntimeError for an error."""
        self._connection.request(method, path, body, {"content-type": content_type, "accept": content_type})
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:300]!r}")
        return content

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
