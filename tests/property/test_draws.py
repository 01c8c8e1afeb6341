"""Draws and late updates against a model: whatever happens, only what is live is drawn, and only it is changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings as limits
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from benchmarks.sampling_reference import probabilities
from buffer_service.core.drawing import MODES, WEIGHT_NORMS, Mode, WeightNorm
from buffer_service.core.plan import Plan, PriorityUpdate, UpdateStatus
from buffer_service.core.sampler import Sampler
from buffer_service.index.view import Allowed
from buffer_service.settings import SamplingSettings, Settings
from buffer_service.storage.group import Group
from buffer_service.storage.operations import Append, Evict, Remove, ReportOutcomes
from buffer_service.storage.table import Table

_CAPACITY = 20
_SAMPLING = SamplingSettings(alpha=0.6, uniform_share=0.05, age_half_life_s=600.0, recent_half_life_rows=3.0)


class Draws(RuleBasedStateMachine):
    """The table changes as the writer changes it; ``model`` has the priority and version of what is live, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.sampler = Sampler(_SAMPLING, self.table, 0.0)
        self.model: dict[int, tuple[float, int]] = {}
        self.seen: list[tuple[int, int]] = []
        self.now_s = 0.0

    @rule(count=st.integers(1, 30), priority=st.floats(0.01, 1000.0))
    def append(self, count: int, priority: float) -> None:
        """Add experiences; beyond the capacity the oldest leaves, also one of the same group."""
        group = Group.on(self.table)
        for _ in range(count):
            sequence, experience = group.header.sequence + 1, group.header.next_id
            group.apply(Append(sequence, experience, self.now_s, priority, None, b"", b"", b""))
            self.model[experience] = (priority, sequence)
            if len(self.model) > _CAPACITY:
                oldest = min(self.model)
                del self.model[oldest]
                group.apply(Evict(sequence + 1, oldest))
        self._publish(group)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove one."""
        experience = data.draw(st.sampled_from(sorted(self.model)))
        del self.model[experience]
        group = Group.on(self.table)
        group.apply(Remove(group.header.sequence + 1, experience))
        self._publish(group)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), success=st.booleans())
    def report(self, data: st.DataObject, success: bool) -> None:  # noqa: FBT001 - hypothesis gives it
        """Count an outcome."""
        experience = data.draw(st.sampled_from(sorted(self.model)))
        group = Group.on(self.table)
        group.apply(ReportOutcomes(group.header.sequence + 1, None, b"", [(experience, success)], b""))
        self._publish(group)

    @rule(seconds=st.floats(0.0, 100_000.0))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    @rule(
        size=st.integers(1, 40),
        mode=st.sampled_from(MODES),
        norm=st.sampled_from(WEIGHT_NORMS),
        unique=st.booleans(),
        modulus=st.one_of(st.none(), st.integers(1, 7)),
    )
    def draw(self, size: int, mode: Mode, norm: WeightNorm, unique: bool, modulus: int | None) -> None:  # noqa: FBT001
        """Draw; all that comes is live, passes the filter, and has its version and its probability."""
        allowed = None if modulus is None else Allowed(1, np.arange(1, self.table.header.next_id) % modulus == 0)
        live = {row for row in self.model if modulus is None or row % modulus == 0}
        drawn = self.sampler.draw(
            min(size, len(live)) if unique and live else size,
            0.4,
            self.now_s,
            unique=unique and bool(live),
            mode=mode,
            weight_norm=norm,
            allowed=allowed,
        )

        ids = drawn.ids.tolist()
        assert set(ids) <= live
        assert drawn.table_size == len(live)
        assert drawn.versions.tolist() == [self.model[row][1] for row in ids]
        assert len(ids) == (0 if not live else min(size, len(live)) if unique else size)
        assert len(set(ids)) == len(ids) or not unique
        assert not len(ids) or (drawn.weights.min() >= 0.0 and drawn.weights.max() <= 1.0)
        if live and allowed is None:
            expected = probabilities(self.table, _SAMPLING, self.now_s, mode)
            assert drawn.probabilities.tolist() == pytest.approx([expected[row] for row in ids], rel=1e-9)
        self.seen += zip(ids, drawn.versions.tolist(), strict=True)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), priority=st.floats(0.01, 1000.0), conditional=st.booleans())
    def update_late(self, data: st.DataObject, priority: float, conditional: bool) -> None:  # noqa: FBT001
        """Set the priority of something that was drawn at any time before; it is changed, or nothing is."""
        experience, version = data.draw(st.sampled_from(self.seen))
        group = Group.on(self.table)
        plan = Plan(group, Settings(sampling=_SAMPLING), 0, self.now_s)
        (status,) = plan.set_priorities([PriorityUpdate(experience, priority, version if conditional else None)])
        if experience not in self.model:
            assert status is UpdateStatus.EVICTED
        elif conditional and self.model[experience][1] != version:
            assert status is UpdateStatus.STALE
        else:
            assert status is UpdateStatus.APPLIED
            self.model[experience] = (priority, group.header.sequence)
        self._publish(group)

    @invariant()
    def nothing_else_has_changed(self) -> None:
        """Ids, priorities and versions are those of the model."""
        rows = {row.id: (row.priority, row.version) for row in self.table.rows()}
        assert rows == self.model

    def _publish(self, group: Group) -> None:
        with self.table.lock:
            self.sampler.note(group.publish())


Draws.TestCase.settings = limits(max_examples=60, stateful_step_count=30, deadline=None)
test_only_what_is_live_is_drawn_and_changed = Draws.TestCase
