"""Bearer tokens: three scopes, each including the one before: read, write, admin.

The tokens are files of a mounted Secret, one per scope, read again each second, so that a rotation takes effect.
They are compared as digests in constant time and never logged.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path

from buffer_service.contract.names import TOKEN_SCOPES
from buffer_service.errors import ForbiddenError, UnauthorizedError

log = logging.getLogger(__name__)

REFRESH_INTERVAL_S = 1.0

READ, WRITE, ADMIN = range(3)


class Tokens:
    """The tokens in a folder; without a folder everything is allowed (the server then listens on loopback only)."""

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._digests: list[bytes | None] = []
        self._read_at = -REFRESH_INTERVAL_S
        self._refresh()

    @property
    def needed(self) -> bool:
        """Tell whether requests need one."""
        return self._folder is not None

    @property
    def any_configured(self) -> bool:
        """Tell whether there is at least one token."""
        return any(self._digests)

    def require(self, authorization: str, scope: int) -> None:
        """Check an Authorization header; raises UnauthorizedError or ForbiddenError."""
        if self._folder is None:
            return
        self._refresh()
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise UnauthorizedError("send the header Authorization: Bearer TOKEN")
        digest = _digest(token)
        granted = [
            level
            for level, known in enumerate(self._digests)
            if known is not None and hmac.compare_digest(known, digest)
        ]
        if not granted:
            raise UnauthorizedError("this token is not known")
        if max(granted) < scope:
            raise ForbiddenError(f"this token's scope is {TOKEN_SCOPES[max(granted)]}, needed is {TOKEN_SCOPES[scope]}")

    def _refresh(self) -> None:
        now = self._clock()
        if self._folder is None or now - self._read_at < REFRESH_INTERVAL_S:
            return
        self._read_at = now
        self._digests = [self._read(self._folder / scope) for scope in TOKEN_SCOPES]

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            token = path.read_text().strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeError) as error:
            log.warning("the token file %s cannot be read: %s", path.name, error)
            return None
        return _digest(token) if token else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
