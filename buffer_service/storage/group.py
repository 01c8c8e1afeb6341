"""A group: the operations that are committed together, and what they change; the one fold of the log into state.

Planning, commit, publication and recovery all go through ``Group.apply``; nothing else knows what an operation means.
Lives on the writer thread from its creation until ``publish``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
import numpy.typing as npt

from buffer_service.storage.operations import (
    Append,
    CountRetrievals,
    Evict,
    Operation,
    Remove,
    ReportOutcomes,
    SetPriorities,
    SwitchIndex,
)
from buffer_service.storage.rows import Header, RequestAnswer, Row
from buffer_service.storage.table import Table, remember


@dataclass(slots=True)
class Group:
    """Changes on top of a table that do not touch it until they are published.

    ``rows`` holds the new value of every row that was added or changed and is live at the end; ``dropped`` the ids
    that were live in the table and are not any more; ``appended`` the appends whose row is live at the end, by id;
    ``counts`` the retrievals by search and by sample of live experiences of which nothing else changes, so that no row
    is made of them.
    """

    table: Table
    header: Header
    operations: list[Operation] = field(default_factory=list)
    rows: dict[int, Row] = field(default_factory=dict)
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    appended: dict[int, Append] = field(default_factory=dict)
    requests: dict[str, RequestAnswer] = field(default_factory=dict)
    retired: dict[str, RequestAnswer] = field(default_factory=dict)
    client_ids: dict[str, int] = field(default_factory=dict)

    @classmethod
    def on(cls, table: Table) -> Group:
        """Start an empty group on top of the table's present state."""
        header = table.header
        return cls(table, Header(header.sequence, header.next_id, header.generation, header.revision, header.watermark))

    def row(self, experience: int) -> Row | None:
        """Return the row as it is after the operations so far; changing it changes the group."""
        if experience in self.rows:
            return self.rows[experience]
        if experience in self.dropped or (row := self.table.row(experience)) is None:
            return None
        return self._counted(row)

    def version(self, experience: int) -> int | None:
        """Return the version of a live experience after the operations so far, None when it is not live.

        Several times quicker than ``row``, which copies.
        """
        if experience in self.rows:
            return self.rows[experience].version
        slot = None if experience in self.dropped else self.table.slots.get(experience)
        return None if slot is None else self.table.version.item(slot)

    def is_live(self, experience: int) -> bool:
        """Tell whether an experience is live after the operations so far."""
        return experience in self.rows or (experience not in self.dropped and experience in self.table.slots)

    @property
    def change_count(self) -> int:
        """Number of experiences that it changes."""
        return len(self.rows) + len(self.counts) + len(self.dropped)

    def counted_rows(self) -> list[Row]:
        """Return the new rows of what is in ``counts``."""
        return [self._counted(row) for row in self.table.rows_of(list(self.counts))]

    def live_count(self) -> int:
        """Return the number of live experiences after the operations so far."""
        return len(self.table) - len(self.dropped) + len(self.appended)

    def appended_before(self, client_id: str) -> tuple[int, bytes] | None:
        """Return id and fingerprint of what was appended under this client_id, live or gone since."""
        experience = self.client_ids.get(client_id, self.table.client_ids.get(client_id))
        row = None if experience is None else self.row(experience)
        if row is not None:
            return row.id, row.fingerprint
        answer = self.retired.get(client_id, self.table.retired.get(client_id))
        return None if answer is None else (int.from_bytes(answer.answer, "big"), answer.fingerprint)

    def request(self, request_id: str) -> RequestAnswer | None:
        """Return what was answered to this request_id."""
        return self.requests.get(request_id, self.table.requests.get(request_id))

    def apply(self, operation: Operation) -> None:
        """Fold one operation, whose sequence must follow the last one's."""
        if operation.sequence != self.header.sequence + 1:
            raise ValueError(f"operation {operation.sequence} does not follow {self.header.sequence}")
        self.header.sequence = operation.sequence
        self.operations.append(operation)
        match operation:
            case Append():
                self._append(operation)
            case Evict() | Remove():
                self._drop(operation.id)
            case SetPriorities():
                self._set_priorities(operation)
            case ReportOutcomes():
                self._report_outcomes(operation)
            case CountRetrievals():
                self._count_retrievals(operation)
            case SwitchIndex():
                self.header.generation = operation.generation
                self.header.revision = operation.revision
                self.header.watermark = operation.watermark
            case _:
                assert_never(operation)

    def move(self, experience: int, place: int) -> None:
        """Note where the adapter keeps the record of a live experience."""
        self._take([experience])
        if (row := self.rows.get(experience)) is not None:
            row.place = place

    def publish(self) -> npt.NDArray[np.int64]:
        """Write the changes into the table, and return the slots they are in. Call once, after the commit."""
        slots = [slot for experience in self.dropped if (slot := self.table.drop(experience)) is not None]
        slots += [self.table.put(row) for row in self.rows.values()]
        slots += self.table.count(self.counts)
        self.table.header = self.header
        remember(self.table.requests, self.requests)
        remember(self.table.retired, self.retired)
        return np.array(slots, np.int64)

    def _append(self, operation: Append) -> None:
        if operation.id != self.header.next_id:
            raise ValueError(f"experience {operation.id} does not follow {self.header.next_id - 1}")
        self.header.next_id += 1
        self.rows[operation.id] = Row(
            id=operation.id,
            version=operation.sequence,
            created_at=operation.created_at,
            priority=operation.priority,
            client_id=operation.client_id,
            fingerprint=operation.fingerprint,
        )
        self.appended[operation.id] = operation
        if operation.client_id is not None:
            self.client_ids[operation.client_id] = operation.id

    def _drop(self, experience: int) -> None:
        row = self.rows.get(experience)
        named = (row.client_id, row.fingerprint) if row else self.table.named(experience)
        if named is not None and experience not in self.dropped:
            client_id, fingerprint = named
            if client_id is not None:
                self.retired[client_id] = RequestAnswer(fingerprint, experience.to_bytes(8, "big"))
        self.rows.pop(experience, None)
        self.appended.pop(experience, None)
        self.counts.pop(experience, None)
        if experience in self.table.slots:
            self.dropped.add(experience)

    def _set_priorities(self, operation: SetPriorities) -> None:
        self._take([experience for experience, _ in operation.updates])
        for experience, priority in operation.updates:
            if (row := self.rows.get(experience)) is not None:
                row.priority = priority
                row.version = operation.sequence

    def _report_outcomes(self, operation: ReportOutcomes) -> None:
        self._take([experience for experience, _ in operation.outcomes])
        for experience, success in operation.outcomes:
            if (row := self.rows.get(experience)) is not None:
                row.outcomes += 1
                row.successes += int(success)
        if operation.request_id is not None:
            self.requests[operation.request_id] = RequestAnswer(operation.fingerprint, operation.answer)

    def _count_retrievals(self, operation: CountRetrievals) -> None:
        for experience, searched, sampled in operation.counts:
            if (row := self.rows.get(experience)) is not None:
                row.search_retrievals += searched
                row.sample_retrievals += sampled
            elif self.is_live(experience):
                before = self.counts.get(experience, (0, 0))
                self.counts[experience] = before[0] + searched, before[1] + sampled

    def _take(self, experiences: list[int]) -> None:
        """Have the rows of these in ``rows``, as far as they are live, in order to change them."""
        missing = [item for item in experiences if item not in self.rows and item not in self.dropped]
        if missing:  # seldom for the appends of this very group, each of which comes by
            self.rows |= {row.id: self._counted(row) for row in self.table.rows_of(missing)}
            for experience in missing:
                self.counts.pop(experience, None)

    def _counted(self, row: Row) -> Row:
        """Return a row of the table with the retrievals of this group."""
        searched, sampled = self.counts.get(row.id, (0, 0))
        row.search_retrievals += searched
        row.sample_retrievals += sampled
        return row
