"""Copying live records out of segments that are mostly dead, a bite with each commit, so that they can be dropped.

Eviction in order of age empties segments by itself; this is for removals and for records that outlive their neighbours.
Writer thread only.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from buffer_service.errors import CorruptStoreError
from buffer_service.storage.group import Group
from buffer_service.storage.log import Log, Segment, segment_of
from buffer_service.storage.table import Table

_BITE_BYTES_MIN = 64 << 10
_BITE_PER_COMMITTED_BYTE = 2
_SEGMENTS_MIN = 16
_SEGMENTS_PER_FULL_ONE = 2
"""So many segments may stand for the live bytes of one full one, and ``_SEGMENTS_MIN`` more."""
_DEAD_SHARE_MAX = 0.5
"""Dead bytes in segments that also hold live records may reach this share of the live bytes, and two segments more."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Copy:
    """A record to be written again."""

    id: int
    place: int
    """Where it is now."""
    data: bytes


class Compaction:
    """Chooses the segment that is worth copying most and walks through it."""

    def __init__(self, log: Log, segment_bytes: int) -> None:
        self._log = log
        self._segment_bytes = segment_bytes
        self._slack_bytes = 2 * segment_bytes
        self._waiting: list[int] = []
        self._unreadable: set[int] = set()
        self._looked_at: Segment | None = None

    def next_copies(self, table: Table, group: Group, committed_bytes: int) -> list[Copy]:
        """Return live records of the segment being emptied, at most twice the bytes that the group itself writes."""
        if not self._waiting and not self._find_victim(table):
            return []
        budget = max(_BITE_BYTES_MIN, _BITE_PER_COMMITTED_BYTE * committed_bytes)
        copies: list[Copy] = []
        victim = segment_of(self._waiting[-1])
        while self._waiting and budget > 0:
            place = self._waiting.pop()
            copy = self._copy(table, group, place)
            if copy is not None:
                copies.append(copy)
                budget -= len(copy.data)
            elif victim in self._unreadable:
                self._waiting.clear()
        if not self._waiting:
            self._looked_at = None
        return copies

    def _find_victim(self, table: Table) -> bool:
        """Look for one when a new segment was begun or the last victim is done."""
        if self._looked_at is self._log.current:
            return False
        self._looked_at = self._log.current
        closed = [
            segment
            for number, segment in self._log.segments.items()
            if segment.live_count and segment is not self._log.current and number not in self._unreadable
        ]
        live_bytes = sum(segment.live_bytes for segment in closed)
        dead_bytes = sum(segment.size for segment in closed) - live_bytes
        if len(closed) > _SEGMENTS_MIN + _SEGMENTS_PER_FULL_ONE * live_bytes // self._segment_bytes:
            victim = min(closed, key=lambda segment: segment.live_bytes)
        elif dead_bytes > _DEAD_SHARE_MAX * live_bytes + self._slack_bytes:
            victim = min(closed, key=lambda segment: segment.live_bytes / segment.size)
        else:
            return False
        places = table.place[(table.place >> 32 == victim.header.number) & (table.ids > 0)]
        self._waiting = np.sort(places)[::-1].tolist()
        return bool(self._waiting)

    def _copy(self, table: Table, group: Group, place: int) -> Copy | None:
        try:
            found = self._log.read(place)
        except CorruptStoreError as error:
            _logger.error("%s; the segment is kept", error)  # noqa: TRY400 - the sentence says it all
            self._unreadable.add(segment_of(place))
            return None
        if found is None:
            return None
        data, record = found
        slot = table.slots.get(record.id)
        if slot is None or int(table.place[slot]) != place or record.id in group.dropped:
            return None
        return Copy(record.id, place, data)
