"""What a background appender holds: bookkeeping without threads or input and output; its owner guards it.

Invariants: what was put is held until it is acknowledged or handed over with an error; order is kept; the bounds
count all that is held, the request under way included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from buffer_client import calls
from buffer_client.calls import Encoded
from buffer_client.errors import (
    AppenderFullError,
    ConflictError,
    FlushTimeoutError,
    IncompleteAppendError,
    InvalidRequestError,
    Problem,
    TooLargeError,
)
from buffer_client.models import Experience
from buffer_client.stream import Bounds

BACKLOG_ROWS = 16_384
BACKLOG_BYTES = 64 * 2**20

_ABOUT_CONTENT = (ConflictError, InvalidRequestError, TooLargeError)
"""One experience can be the reason, and the others of the request would be accepted."""


class Backlog:
    """Experiences on their way to the buffer. Tickets count what was put, so that a flush knows what it waits for."""

    def __init__(self, bounds: Bounds, chunk: Bounds) -> None:
        self._bounds = bounds
        self._chunk = chunk
        self._group_rows = chunk.rows
        self._held: dict[str, bytes] = {}
        self._size_bytes = 0
        self._waiting: deque[Encoded] = deque()
        self._sending: list[Encoded] = []
        self._settled = 0
        self._cause: Exception | None = None
        self._failed: list[Experience] = []
        self._last: tuple[Exception, tuple[Experience, ...]] | None = None
        self.failures = 0
        """How often something was not acknowledged."""

    @property
    def rows(self) -> int:
        """Experiences held."""
        return len(self._held)

    @property
    def ticket(self) -> int:
        """The ticket of the experience that was put last."""
        return self._settled + self.rows

    @property
    def has_failed(self) -> bool:
        """Whether there is an error that nobody was told of yet."""
        return self._cause is not None

    @property
    def has_waiting(self) -> bool:
        """Whether something can be sent."""
        return bool(self._waiting)

    def encode(self, experience: Experience) -> Encoded:
        """Encode for ``put``; raises TooLargeError for what would not fit into an empty backlog."""
        encoded = calls.encode(experience)
        size_bytes = len(encoded.body)
        if not self._bounds.hold(1, size_bytes):
            raise TooLargeError(Problem(detail=f"one experience of {size_bytes} bytes is more than may wait"))
        return encoded

    def has_room(self, encoded: Encoded) -> bool:
        """Return whether it fits now."""
        return self._bounds.hold(self.rows + 1, self._size_bytes + len(encoded.body))

    def put(self, encoded: Encoded) -> None:
        """Hold it until it is acknowledged; the same experience twice is held once.

        Raises ConflictError for a client_id that is held with another content.
        """
        client_id = encoded.experience.client_id
        if client_id in self._held:
            if self._held[client_id] != encoded.body:
                raise ConflictError(Problem(detail=f"client_id {client_id} is waiting with another content"))
            return
        self._held[client_id] = encoded.body
        self._size_bytes += len(encoded.body)
        self._waiting.append(encoded)

    def take(self) -> list[Encoded]:
        """Return what waits, as much as one request holds; to be followed by ``acknowledge`` or ``fail``."""
        size_bytes = 0
        while self._waiting and len(self._sending) < self._group_rows:
            size_bytes += len(self._waiting[0].body)
            if self._sending and not self._chunk.hold(1, size_bytes):
                break
            self._sending.append(self._waiting.popleft())
        return self._sending

    def acknowledge(self) -> None:
        """Let go of what was taken."""
        self._release(self._sending)
        self._sending = []
        self._group_rows = min(self._chunk.rows, 2 * self._group_rows)

    def fail(self, cause: Exception) -> None:
        """Give up what cannot be sent.

        Where one experience may be the reason, smaller requests are tried until it is alone, so that only it is given
        up. Else all is: what could not be sent now would fail likewise, and the caller decides.
        """
        taken, self._sending = self._sending, []
        if not isinstance(cause, _ABOUT_CONTENT):
            taken += self._waiting
            self._waiting.clear()
        elif len(taken) > 1:
            self._group_rows = len(taken) // 2
            self._waiting.extendleft(reversed(taken))
            return
        self._release(taken)
        self._failed += [encoded.experience for encoded in taken]
        self._cause = self._cause or cause
        self.failures += 1

    def hand_over(self, also: Sequence[Experience] = ()) -> IncompleteAppendError:
        """Return the error, with what was given up and ``also``: from now on these are the caller's to care for.

        Where another caller was told first, the same is told again.
        """
        if self._cause is not None:
            self._last = (self._cause, tuple(self._failed))
            self._cause, self._failed = None, []
        if self._last is None:
            raise RuntimeError("nothing has failed")
        cause, experiences = self._last
        error = IncompleteAppendError(cause, (*experiences, *also))
        error.__cause__ = cause
        return error

    def is_settled(self, ticket: int) -> bool:
        """Return whether all up to this ticket was acknowledged or given up."""
        return self._settled >= ticket

    def full_error(self) -> AppenderFullError:
        """Return the error for a put that found no room in time."""
        return AppenderFullError(Problem(detail=f"{self.rows} experiences of {self._size_bytes} bytes are waiting"))

    def flush_error(self) -> FlushTimeoutError:
        """Return the error for a flush that was not done in time."""
        return FlushTimeoutError(Problem(detail=f"{self.rows} experiences are not acknowledged yet"))

    def _release(self, experiences: Sequence[Encoded]) -> None:
        for encoded in experiences:
            del self._held[encoded.experience.client_id]
            self._size_bytes -= len(encoded.body)
        self._settled += len(experiences)
