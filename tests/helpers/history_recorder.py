"""Carries out operations on a service that may be gone, and writes one record for each attempt."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from buffer_client import (
    BufferClient,
    ClientError,
    Experience,
    OutcomeUnknownError,
    RejectedError,
    RetryLaterError,
    StoredExperience,
)
from tests.helpers.history import (
    Append,
    Get,
    Operation,
    Outcome,
    Page,
    Remove,
    ReportOutcomes,
    Sample,
    Search,
    Seen,
    SetPriorities,
    encode_operation,
    vector_of,
    vectors_of,
)

CONFIDENCE = 0.5
INITIAL_PRIORITY = 0.2
"""What the service's formula gives for that confidence and no reward."""

_PAUSE_S = 0.05
"""Between attempts while the service is not there."""


def seen(item: StoredExperience) -> Seen:
    """Return what a history keeps of an experience that was read."""
    return Seen(
        id=item.id,
        key=item.client_id or "",
        content=str((item.metadata or {}).get("key")),
        sequence=item.sequence,
        priority=item.priority,
        outcomes=item.outcome_count,
        successes=item.success_count,
    )


@dataclass
class Recorder:
    """The operations of one process; ``answered`` counts those that were done."""

    client: BufferClient
    process: int
    lines: BinaryIO
    answered: int = 0

    def record(self, kind: type[Operation], call: Callable[[], dict[str, Any]], **asked: Any) -> Any:  # noqa: ANN401 - of that kind
        """Call, and record how it went; ``call`` returns the fields of the answer."""
        told: dict[str, Any] = {}
        refusal = ""
        invoked = time.monotonic()
        try:
            told = call()
            outcome = Outcome.OK
        except (RejectedError, RetryLaterError) as error:
            outcome, refusal = Outcome.FAIL, error.code
        except OutcomeUnknownError as error:
            outcome, refusal = Outcome.UNKNOWN, error.code
        except ClientError as error:
            outcome, refusal = Outcome.UNKNOWN, error.code or type(error).__name__
        completed = time.monotonic()
        operation = kind(
            process=self.process,
            invoked=invoked,
            completed=completed,
            outcome=outcome,
            refusal=refusal,
            **asked,
            **told,
        )
        self.lines.write(encode_operation(operation))
        self.answered += operation.ok
        if not operation.ok and not refusal:
            time.sleep(_PAUSE_S)
        return operation

    def append(self, keys: list[str]) -> Append:
        """Append the experiences with these keys in one request."""
        experiences = [
            Experience(client_id=key, visual=vector_of(key), confidence=CONFIDENCE, metadata={"key": key})
            for key in keys
        ]

        def call() -> dict[str, Any]:
            result = self.client.append(experiences)
            return {"ids": result.ids.tolist(), "sequence": result.sequence}

        appended: Append = self.record(Append, call, keys=keys)
        return appended

    def search(self, keys: list[str], *, min_sequence: int | None) -> None:
        """Search for the vectors of these keys."""

        def call() -> dict[str, Any]:
            found = self.client.search(vectors_of(keys), k=3, min_sequence=min_sequence)
            hits = [
                [hit for hit in zip(ids, scores, strict=True) if hit[0] > 0]
                for ids, scores in zip(found.ids.tolist(), found.scores.tolist(), strict=True)
            ]
            return {"hits": hits, "sequence": found.sequence}

        self.record(Search, call, keys=keys)

    def sample(self, size: int) -> list[tuple[int, int]]:
        """Draw, and return (id, sequence) of each."""

        def call() -> dict[str, Any]:
            batch = self.client.sample(size)
            draws = list(zip(batch.ids.tolist(), batch.sequences.tolist(), strict=True))
            return {"draws": draws, "table_size": batch.table_size}

        drawn: Sample = self.record(Sample, call)
        return drawn.draws

    def set_priorities(self, updates: list[tuple[int, float, int | None]]) -> None:
        """Set priorities, either all of them or none as of a sequence."""
        ids, values, given = zip(*updates, strict=True)
        sequences = None if None in given else given
        self.record(
            SetPriorities,
            lambda: {"statuses": [str(item) for item in self.client.update_priorities(ids, values, sequences)]},
            updates=updates,
        )

    def report(self, request_id: str, outcomes: list[tuple[int, bool]]) -> ReportOutcomes:
        """Report outcomes."""
        ids, successes = zip(*outcomes, strict=True)
        reported: ReportOutcomes = self.record(
            ReportOutcomes,
            lambda: {"statuses": [str(item) for item in self.client.report_outcomes(ids, successes, request_id)]},
            request_id=request_id,
            outcomes=outcomes,
        )
        return reported

    def remove(self, id_: int) -> None:
        """Remove one."""

        def call() -> dict[str, Any]:
            self.client.remove(id_)
            return {"sequence": self.client.sequence}

        self.record(Remove, call, id=id_)

    def get(self, id_: int) -> None:
        """Read one."""
        self.record(Get, lambda: {"rows": [seen(self.client.get(id_))]}, id=id_)

    def page(self, cursor: int, limit: int) -> None:
        """Read a page."""

        def call() -> dict[str, Any]:
            page = self.client.page(cursor, limit)
            return {"rows": [seen(item) for item in page.experiences], "following": page.next_cursor}

        self.record(Page, call, cursor=cursor)

    def everything(self) -> Page:
        """Read all there is, as one page: for when nothing else is going on."""

        def call() -> dict[str, Any]:
            return {"rows": [seen(item) for item in self.client.experiences(limit=1000)], "following": None}

        page: Page = self.record(Page, call, cursor=0)
        return page
