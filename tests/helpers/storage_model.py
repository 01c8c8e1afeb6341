"""What a store has to hold, folded in the plainest way, and random operations to fold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NamedTuple

import numpy as np

from buffer_service.storage.base import Shape, Store
from buffer_service.storage.group import Group
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

SHAPE = Shape(4, "cosine")


class Experience(NamedTuple):
    """Everything that is kept of an experience."""

    version: int
    created_at: float
    priority: float
    client_id: str | None
    fingerprint: bytes
    searched: int
    sampled: int
    outcomes: int
    successes: int
    payload: bytes
    vector: bytes


@dataclass(slots=True)
class Model:
    """The state after a list of operations. Two are equal when everything that a caller can see is."""

    sequence: int = 0
    next_id: int = 1
    index: tuple[int, int, int] = (0, 0, 0)
    experiences: dict[int, Experience] = field(default_factory=dict)
    requests: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    retired: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Fingerprint and id by the client_id of what has gone."""

    def copy(self) -> Model:
        """Return a model of its own."""
        return replace(
            self, experiences=dict(self.experiences), requests=dict(self.requests), retired=dict(self.retired)
        )

    def apply(self, operation: Operation) -> None:  # noqa: C901 - one case for each kind of operation
        """Fold one operation."""
        self.sequence = operation.sequence
        match operation:
            case Append(id=id_, payload=payload, vector=vector):
                self.next_id = id_ + 1
                self.experiences[id_] = Experience(
                    operation.sequence,
                    operation.created_at,
                    operation.priority,
                    operation.client_id,
                    operation.fingerprint,
                    *(0, 0, 0, 0),
                    payload,
                    vector,
                )
            case Evict(id=id_) | Remove(id=id_):
                gone = self.experiences.pop(id_, None)
                if gone is not None and gone.client_id is not None:
                    self.retired[gone.client_id] = (gone.fingerprint, id_)
            case SetPriorities(sequence, updates):
                for id_, priority in updates:
                    self._change(id_, priority=priority, version=sequence)
            case ReportOutcomes():
                for id_, success in operation.outcomes:
                    self._add(id_, outcomes=1, successes=int(success))
                if operation.request_id is not None:
                    self.requests[operation.request_id] = (operation.fingerprint, operation.answer)
            case CountRetrievals(counts=counts):
                for id_, searched, sampled in counts:
                    self._add(id_, searched=searched, sampled=sampled)
            case SwitchIndex(generation=generation, revision=revision, watermark=watermark):
                self.index = (generation, revision, watermark)

    def _change(self, experience: int, **fields: Any) -> None:  # noqa: ANN401 - fields of Experience
        if experience in self.experiences:
            self.experiences[experience] = self.experiences[experience]._replace(**fields)

    def _add(self, experience: int, **counts: int) -> None:
        if experience in self.experiences:
            old = self.experiences[experience]
            self._change(experience, **{name: getattr(old, name) + count for name, count in counts.items()})


def model_of(store: Store) -> Model:
    """Read everything back from a store."""
    table = store.table
    rows = list(table.rows())
    ids = [row.id for row in rows]
    payloads = store.payloads(ids)
    found, vectors = store.vectors(np.array(ids, np.int64))
    assert found.tolist() == ids
    experiences = {
        row.id: Experience(
            row.version,
            row.created_at,
            row.priority,
            row.client_id,
            row.fingerprint,
            row.search_retrievals,
            row.sample_retrievals,
            row.outcomes,
            row.successes,
            payload or b"",
            vector.tobytes(),
        )
        for row, payload, vector in zip(rows, payloads, vectors, strict=True)
    }
    header = table.header
    requests = {request_id: (answer.fingerprint, answer.answer) for request_id, answer in table.requests.items()}
    retired = {
        client_id: (answer.fingerprint, int.from_bytes(answer.answer, "big"))
        for client_id, answer in table.retired.items()
    }
    index = (header.generation, header.revision, header.watermark)
    return Model(header.sequence, header.next_id, index, experiences, requests, retired)


def random_operations(
    random: Random, model: Model, count: int, capacity: int = 12, *, keep_oldest: bool = False
) -> list[Operation]:
    """Return operations that follow the model, which is left as it is.

    Instead of an append beyond the capacity the oldest is evicted, or, to ``keep_oldest``, a young one is removed.
    """
    state = model.copy()
    operations: list[Operation] = []
    for _ in range(count):
        operation = _random_operation(random, state)
        if isinstance(operation, Append) and len(state.experiences) >= capacity:
            young = random.choice(sorted(state.experiences)[capacity // 2 :])
            sequence = state.sequence + 1
            operation = Remove(sequence, young) if keep_oldest else Evict(sequence, min(state.experiences))
        operations.append(operation)
        state.apply(operation)
    return operations


def group_of(store: Store, operations: list[Operation]) -> Group:
    """Plan a group of the operations."""
    group = Group.on(store.table)
    for operation in operations:
        group.apply(operation)
    return group


def append_operation(random: Random, state: Model, payload_bytes: int = 40) -> Append:
    """Return the next append."""
    sequence = state.sequence + 1
    return Append(
        sequence,
        state.next_id,
        random.random(),
        random.random(),
        f"client-{state.next_id}" if random.random() < 0.5 else None,
        random.randbytes(8),
        random.randbytes(random.randrange(payload_bytes)),
        np.array([random.uniform(-1, 1) for _ in range(SHAPE.dimension)], "<f4").tobytes(),
    )


def _random_operation(random: Random, state: Model) -> Operation:
    sequence = state.sequence + 1
    live = sorted(state.experiences)
    kind = random.choices(range(6), (8, 2, 2, 2, 2, 1))[0]
    if kind == 0 or not live:
        return append_operation(random, state)
    chosen = random.sample(live, random.randint(1, min(3, len(live))))
    if kind == 1:
        return Remove(sequence, chosen[0])
    if kind == 2:
        return SetPriorities(sequence, [(id_, random.random()) for id_ in chosen])
    if kind == 3:
        request_id = f"request-{sequence}" if random.random() < 0.5 else None
        outcomes = [(id_, random.random() < 0.5) for id_ in chosen]
        return ReportOutcomes(sequence, request_id, b"f%d" % sequence, outcomes, b"a%d" % sequence)
    if kind == 4:
        return CountRetrievals(sequence, [(id_, random.randrange(3), random.randrange(3)) for id_ in chosen])
    return SwitchIndex(sequence, random.randrange(100), random.randrange(100), random.randrange(sequence))
