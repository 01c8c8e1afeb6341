"""A file store on a simulated disk, driven along a random history, with its model beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from random import Random
from typing import ParamSpec, TypeVar

from buffer_service.errors import OutcomeUnknownError, StorageFullError
from buffer_service.storage.file_store import FileStore
from buffer_service.storage.maintenance import Limits
from tests.helpers.simulated_fs import FOLDER, PowerLossError, SimulatedFileSystem
from tests.helpers.storage_invariants import check_recovered
from tests.helpers.storage_model import SHAPE, Model, group_of, random_operations

_P = ParamSpec("_P")
_T = TypeVar("_T")

SMALL = Limits(segment_bytes=700, snapshot_log_bytes=600, snapshot_changes=12)
"""Limits that make every mechanism of the store act within a few commits."""


def open_simulated(
    system: SimulatedFileSystem, background: Executor | None = None, limits: Limits = SMALL
) -> FileStore:
    """Open the store on a simulated disk."""
    return FileStore(system, FOLDER, SHAPE, background or Later(), limits, lambda: None)


class Later(Executor):
    """A background that works when it is told to."""

    def __init__(self) -> None:
        self._jobs: list[Callable[[], None]] = []

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Put the work off."""
        future: Future[_T] = Future()

        def job() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except OSError as error:
                future.set_exception(error)

        self._jobs.append(job)
        return future

    def work(self) -> None:
        """Do what was put off."""
        while self._jobs:
            self._jobs.pop(0)()


class History:
    """Random commits, each acknowledged, refused or in doubt."""

    def __init__(self, seed: int, system: SimulatedFileSystem) -> None:
        self.random = Random(seed)
        self.system = system
        self.acknowledged = Model()
        self.in_doubt: Model | None = None
        self.begun: Model = self.acknowledged
        """The state after the commit that is going on, or after the last one."""
        self._background = Later()
        self._keep_oldest = seed % 2 == 0
        self.store = open_simulated(system, self._background)

    def commit(self) -> None:
        """Commit a random group; raises what the store raises."""
        if self.random.random() < 0.5:
            self._background.work()
        operations = random_operations(
            self.random, self.acknowledged, self.random.randint(1, 6), keep_oldest=self._keep_oldest
        )
        group = group_of(self.store, operations)
        self.begun = self.acknowledged.copy()
        for operation in operations:
            self.begun.apply(operation)
        try:
            self.store.commit(group)
        except StorageFullError:
            self.begun = self.acknowledged
            raise
        except OutcomeUnknownError:
            self.in_doubt = self.begun
            raise
        group.publish()
        self.acknowledged = self.begun

    def lose_power_in_a_commit(self) -> None:
        """Commit a random group on a disk that loses its power meanwhile, or just after."""
        with contextlib.suppress(PowerLossError, OutcomeUnknownError):
            self.commit()

    @staticmethod
    def recover_until_power_loss(system: SimulatedFileSystem) -> None:
        """Begin to recover on a disk that loses its power meanwhile."""
        with contextlib.suppress(PowerLossError):
            open_simulated(system)

    def check_power_loss(self, seed: int) -> None:
        """Check what would be recovered if the power failed now; for some seeds, that the store works then, too."""
        system = self.system.after_power_loss(seed)
        self.check_recovered(open_simulated(system))
        if seed % 8 == 0:
            self.check_recovery_of(system)

    def check_recovered(self, store: FileStore) -> Model:
        """Check what was recovered."""
        return check_recovered(store, self.acknowledged, [self.begun, *([self.in_doubt] if self.in_doubt else [])])

    def check_recovery_of(self, system: SimulatedFileSystem) -> None:
        """Check what is recovered from the disk, twice, and that the store works then and outlives a power loss."""
        found = self.check_recovered(open_simulated(system))
        store = open_simulated(system)
        assert store.report.torn_bytes == 0, "the first recovery has cut the tail"
        check_recovered(store, found)
        operations = random_operations(Random(1), found, 2)
        group = group_of(store, operations)
        store.commit(group)
        group.publish()
        after = found.copy()
        for operation in operations:
            after.apply(operation)
        check_recovered(store, after)
        check_recovered(open_simulated(system.after_power_loss(0)), after)
