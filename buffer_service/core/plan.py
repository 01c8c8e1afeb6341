"""Planning: what each write request means on top of the writes before it, as operations.

A planning function checks everything first and applies afterwards, so that a request it refuses has changed nothing.
All of this runs on the writer thread.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from buffer_service.core.appending import AppendRequest
from buffer_service.core.experience import Prepared
from buffer_service.core.priority import clipped_priority
from buffer_service.core.serving import Coming
from buffer_service.errors import (
    BacklogError,
    ConflictError,
    EvictedExperienceError,
    InvalidRequestError,
    UnknownExperienceError,
)
from buffer_service.settings import Settings
from buffer_service.storage.group import Group
from buffer_service.storage.operations import Append, CountRetrievals, Evict, Remove, ReportOutcomes, SetPriorities
from buffer_service.storage.rows import RequestAnswer


class UpdateStatus(StrEnum):
    """What became of one item of a delayed update."""

    APPLIED = "applied"
    EVICTED = "evicted"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Appended:
    """Ids in the order given, and a sequence number at which all of them are visible."""

    ids: list[int]
    sequence: int


@dataclass(frozen=True, slots=True)
class PriorityUpdate:
    """A new priority; with ``sequence`` only if the experience has not changed since."""

    id: int
    priority: float
    sequence: int | None = None


@dataclass(slots=True)
class Space:
    """The bytes that experiences may still take; below zero the oldest have to go."""

    left_bytes: int
    mean_bytes: int
    """Of an experience that is in the store."""

    def take(self, append: Append) -> None:
        """Count what is appended."""
        self.left_bytes -= len(append.payload) + len(append.vector)

    def free(self, append: Append | None) -> None:
        """Count what is evicted: an append of this group, or what was in the store before."""
        self.left_bytes += self.mean_bytes if append is None else len(append.payload) + len(append.vector)


class Plan:
    """A group in the making. Without ``space`` only the number of experiences is bounded."""

    def __init__(
        self, group: Group, settings: Settings, delta_room: int, now_s: float, space: Space | None = None
    ) -> None:
        self.group = group
        self.coming: Coming | None = None
        """The generation that takes its place together with this group."""
        self._settings = settings
        self._delta_room = delta_room
        self._now_s = now_s
        self._space = space
        self._oldest = group.table.oldest_id()

    @property
    def next_sequence(self) -> int:
        """The sequence number of the next operation."""
        return self.group.header.sequence + 1

    def append(self, request: AppendRequest) -> Appended:
        """Add experiences, evicting the oldest beyond the capacity.

        Raises InvalidRequestError for a bad vector, ConflictError, BacklogError.
        """
        if request.vectors is None:
            raise request.error or ValueError("the vectors of this request were not made")
        fingerprints = [item.fingerprint() for item in request.items]
        known = self._known_ids(request.items, fingerprints)
        new = sum(1 for experience in known if experience is None)
        if new > self._delta_room:
            raise BacklogError(
                f"{self._settings.index.delta_rows_max} rows are waiting for the next index generation; nothing may be "
                "hidden from searches, so appends wait until a rebuild has caught up"
            )
        ids = []
        for before, item, fingerprint, vector in zip(known, request.items, fingerprints, request.vectors, strict=True):
            ids.append(self._append_one(item, fingerprint, vector) if before is None else before)
        return Appended(ids, self.group.header.sequence)

    def remove(self, experience: int) -> int:
        """Drop one experience and return the sequence number of that."""
        self._require_issued(experience)
        if self.group.version(experience) is None:
            raise EvictedExperienceError(f"experience {experience} was evicted or removed before")
        self.group.apply(Remove(self.next_sequence, experience))
        return self.group.header.sequence

    def set_priorities(self, updates: Sequence[PriorityUpdate]) -> list[UpdateStatus]:
        """Set priorities; for an id that is named twice the last one counts."""
        for update in updates:
            self._require_issued(update.id)
            if not math.isfinite(update.priority) or update.priority < 0:
                raise InvalidRequestError(
                    f"priority of {update.id} is {update.priority}; give a finite number from 0 on"
                )
        statuses = [self._status(update) for update in updates]
        wanted = {
            update.id: clipped_priority(update.priority, self._settings.sampling)
            for update, status in zip(updates, statuses, strict=True)
            if status is UpdateStatus.APPLIED
        }
        if wanted:
            self.group.apply(SetPriorities(self.next_sequence, list(wanted.items())))
        return statuses

    def report_outcomes(self, outcomes: Sequence[tuple[int, bool]], request_id: str | None) -> list[UpdateStatus]:
        """Count outcomes; the same request_id again returns the first answer and counts nothing."""
        fingerprint = hashlib.blake2b(msgspec.msgpack.encode(outcomes), digest_size=16).digest()
        if request_id is not None and (before := self.group.request(request_id)) is not None:
            return _answered(before, fingerprint, request_id)
        for experience, _ in outcomes:
            self._require_issued(experience)
        live = [(experience, success) for experience, success in outcomes if self.group.version(experience) is not None]
        there = {experience for experience, _ in live}
        statuses = [UpdateStatus.APPLIED if item in there else UpdateStatus.EVICTED for item, _ in outcomes]
        answer = msgspec.msgpack.encode(statuses)
        self.group.apply(ReportOutcomes(self.next_sequence, request_id, fingerprint, live, answer))
        return statuses

    def count_retrievals(self, counts: list[tuple[int, int, int]]) -> None:
        """Add gathered retrieval counts; those of experiences that have gone are dropped."""
        live = [count for count in counts if self.group.is_live(count[0])]
        if live:
            self.group.apply(CountRetrievals(self.next_sequence, live))

    def _known_ids(self, items: Sequence[Prepared], fingerprints: Sequence[bytes]) -> list[int | None]:
        """Return the id of each experience that was appended before under its client_id."""
        known: list[int | None] = []
        seen: set[str] = set()
        for item, fingerprint in zip(items, fingerprints, strict=True):
            before = None if item.client_id is None else self.group.appended_before(item.client_id)
            if item.client_id is not None:
                if item.client_id in seen:
                    raise ConflictError(f"client_id {item.client_id} occurs twice in this request")
                seen.add(item.client_id)
            if before is not None and before[1] != fingerprint:
                raise ConflictError(
                    f"client_id {item.client_id} was used for experience {before[0]} with another content"
                )
            known.append(None if before is None else before[0])
        return known

    def _append_one(self, item: Prepared, fingerprint: bytes, vector: bytes) -> int:
        append = Append(
            sequence=self.next_sequence,
            id=self.group.header.next_id,
            created_at=self._now_s,
            priority=item.priority,
            client_id=item.client_id,
            fingerprint=fingerprint,
            payload=item.payload,
            vector=vector,
        )
        self.group.apply(append)
        self._delta_room -= 1
        if self._space is not None:
            self._space.take(append)
        while self._is_over_capacity():
            self._evict_oldest()
        return append.id

    def _is_over_capacity(self) -> bool:
        live = self.group.live_count()
        full = self._space is not None and self._space.left_bytes < 0
        return live > self._settings.buffer.capacity or (full and live > 1)

    def _evict_oldest(self) -> None:
        while self.group.version(self._oldest) is None:
            self._oldest += 1
        if self._space is not None:
            self._space.free(self.group.appended.get(self._oldest))
        self.group.apply(Evict(self.next_sequence, self._oldest))

    def _require_issued(self, experience: int) -> None:
        if not 1 <= experience < self.group.header.next_id:
            raise UnknownExperienceError(f"no experience was ever given the id {experience}")

    def _status(self, update: PriorityUpdate) -> UpdateStatus:
        version = self.group.version(update.id)
        if version is None:
            return UpdateStatus.EVICTED
        stale = update.sequence is not None and update.sequence < version
        return UpdateStatus.STALE if stale else UpdateStatus.APPLIED


def _answered(before: RequestAnswer, fingerprint: bytes, request_id: str) -> list[UpdateStatus]:
    if before.fingerprint != fingerprint:
        raise ConflictError(f"request_id {request_id} was used before with other outcomes")
    return msgspec.msgpack.decode(before.answer, type=list[UpdateStatus])
