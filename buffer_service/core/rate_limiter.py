"""Holds draws and appends together: a least size, and draws per appended experience, as Reverb's rate limiter does.

    room = samples_per_insert·(appended − min_size) + error_buffer − drawn

Draws are refused while room is smaller than their number; with ``limit_inserts`` appends are refused while room is
above 2·error_buffer, that is, when draws have fallen behind by more than error_buffer; one append of many rows may go
beyond. Never do both wait: no request for more than 2·error_buffer draws is taken then, and appends are never refused
while the buffer is smaller than min_size.

Appended is counted by the ids that were given out, which is durable. Drawn is counted since the start, and a start
counts as balanced (of what is there, min_size was appended and none drawn): with ``limit_inserts`` a restart shifts the
ratio by no more than error_buffer, which is how far off it may have been when the process ended. Without, a surplus of
appends is forgotten.
"""

from __future__ import annotations

import threading

from buffer_service.errors import InvalidRequestError, RateLimitedError, TooFewExperiencesError
from buffer_service.settings import SamplingSettings
from buffer_service.storage.table import Table


class RateLimiter:
    """Counts draws. Any thread."""

    def __init__(self, settings: SamplingSettings, table: Table) -> None:
        self._settings = settings
        self._table = table
        self._appended_before = table.header.next_id - min(len(table), settings.min_size)
        self._drawn = 0
        self._lock = threading.Lock()

    def room(self) -> float | None:
        """Return the number of draws that would be taken now, negative where too many were; None without a limit."""
        per_insert, buffer = self._settings.samples_per_insert, self._settings.error_buffer
        if per_insert is None or buffer is None:
            return None
        appended = self._table.header.next_id - self._appended_before
        return per_insert * (appended - self._settings.min_size) + buffer - self._drawn

    def take(self, draws: int) -> None:
        """Count draws that are about to be made.

        Raises TooFewExperiencesError and RateLimitedError, and InvalidRequestError for more than there can ever be
        room for.
        """
        settings = self._settings
        if len(self._table) < settings.min_size:
            raise TooFewExperiencesError(
                f"there are {len(self._table)} experiences; draws are taken from {settings.min_size} on"
            )
        if settings.limit_inserts and settings.error_buffer is not None and draws > 2.0 * settings.error_buffer:
            raise InvalidRequestError(
                f"{draws} draws at once are more than appends may run ahead by; ask for {2.0 * settings.error_buffer:g}"
            )
        with self._lock:
            room = self.room()
            if room is not None and draws > room:
                raise RateLimitedError(
                    f"{draws} draws would be too many for what was appended: {max(0.0, room):g} are left until more "
                    f"comes, {settings.samples_per_insert:g} for each experience"
                )
            self._drawn += draws

    def give_back(self, draws: int) -> None:
        """Count draws no more that came to nothing."""
        with self._lock:
            self._drawn -= draws

    def require_room_for_append(self) -> None:
        """Raise RateLimitedError where draws have fallen so far behind that appends wait."""
        settings = self._settings
        if not settings.limit_inserts or len(self._table) < settings.min_size:
            return
        room = self.room()
        if room is not None and settings.error_buffer is not None and room > 2.0 * settings.error_buffer:
            raise RateLimitedError(
                f"appends are ahead of draws by {room - settings.error_buffer:g} draws, which is more than "
                f"{settings.error_buffer:g}; they go on as soon as more is drawn"
            )
