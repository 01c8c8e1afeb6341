"""Commits, restarts and crashes in any order, on both backends, against the plain model."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from abc import abstractmethod
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from buffer_service.errors import OutcomeUnknownError
from buffer_service.storage.base import Store
from buffer_service.storage.lmdb_store import LmdbStore
from buffer_service.storage.operations import Operation
from tests.helpers.simulated_fs import PowerLossError, SimulatedFileSystem
from tests.helpers.storage_invariants import check_consistent, check_recovered
from tests.helpers.storage_model import SHAPE, Model, group_of, model_of, random_operations
from tests.helpers.storage_simulation import Later, open_simulated

MAP_SIZE_BYTES = 4 << 20
randoms = st.integers(0, 2**32).map(Random)


class StoreMachine(RuleBasedStateMachine):
    """The rules; subclasses say how their store is opened, and what crashes."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    @abstractmethod
    def reopen(self) -> None:
        """Close the store and open it again."""

    @abstractmethod
    def crash_in_commit(self, operations: list[Operation], moment: int) -> None:
        """Begin a commit, crash at some moment of it, and open the store again."""

    def after(self, operations: list[Operation]) -> Model:
        """Return the model with the operations applied."""
        model = self.model.copy()
        for operation in operations:
            model.apply(operation)
        return model

    @rule(random=randoms, count=st.integers(1, 8), keep_oldest=st.booleans())
    def commit(self, random: Random, count: int, *, keep_oldest: bool) -> None:
        """Acknowledge a group."""
        operations = random_operations(random, self.model, count, keep_oldest=keep_oldest)
        group = group_of(self.store, operations)
        self.store.commit(group)
        group.publish()
        self.model = self.after(operations)

    @rule()
    def restart(self) -> None:
        """Close and open."""
        self.reopen()
        check_recovered(self.store, self.model)

    @rule(random=randoms, count=st.integers(1, 8), moment=st.integers(0, 12))
    def crash(self, random: Random, count: int, moment: int) -> None:
        """Crash around a commit."""
        operations = random_operations(random, self.model, count)
        self.crash_in_commit(operations, moment)
        self.model = check_recovered(self.store, self.model, [self.after(operations)])

    @invariant()
    def holds_what_was_acknowledged(self) -> None:
        """At any time everything that was acknowledged can be read, and nothing else."""
        assert model_of(self.store) == self.model
        check_consistent(self.store)


class FileMachine(StoreMachine):
    """The file backend, whose crash is a power loss of a simulated disk."""

    def __init__(self) -> None:
        super().__init__()
        self.system = SimulatedFileSystem()
        self._open()

    def reopen(self) -> None:
        """See StoreMachine; the cache of the machine stays."""
        self.background.work()
        self._open()

    def crash_in_commit(self, operations: list[Operation], moment: int) -> None:
        """Lose the power at the given operation of the disk from now on, which may be after the commit."""
        self.system.power_off_at = self.system.steps + moment
        with contextlib.suppress(OutcomeUnknownError, PowerLossError):
            self.store.commit(group_of(self.store, operations))
        self.system = self.system.after_power_loss(moment)
        self._open()

    @rule()
    def work(self) -> None:
        """Let the background finish snapshots and removals."""
        self.background.work()

    def _open(self) -> None:
        self.background = Later()
        self.store = open_simulated(self.system, self.background)


class LmdbMachine(StoreMachine):
    """The lmdb backend, whose crash is a copy of its files while a transaction is open or after it."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.folder = self.root / "0"
        self.store = LmdbStore.open(self.folder, SHAPE, MAP_SIZE_BYTES)
        self.crashes = 0

    def reopen(self) -> None:
        """See StoreMachine."""
        self.store.close()
        self.store = LmdbStore.open(self.folder, SHAPE, MAP_SIZE_BYTES)

    def crash_in_commit(self, operations: list[Operation], moment: int) -> None:
        """Take the files as they are in the middle of a transaction, or just after its commit."""
        store = self.store
        assert isinstance(store, LmdbStore)
        group = group_of(store, operations)
        self.crashes += 1
        copy = self.root / str(self.crashes)
        if moment % 2:
            store.commit(group)
            shutil.copytree(self.folder, copy)
        else:
            with store._environment.begin(write=True) as transaction:
                store._writer.put(transaction, group)
                shutil.copytree(self.folder, copy)
                transaction.abort()
        store.close()
        self.folder = copy
        self.store = LmdbStore.open(copy, SHAPE, MAP_SIZE_BYTES)

    def teardown(self) -> None:
        """Remove the files."""
        self.store.close()
        shutil.rmtree(self.root)


_settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
TestFileStore = FileMachine.TestCase
TestFileStore.settings = _settings
TestLmdbStore = LmdbMachine.TestCase
TestLmdbStore.settings = settings(_settings, max_examples=15)
