"""A process that was superseded writes nothing that counts, wherever in a commit it was when that happened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from random import Random

import pytest

from buffer_service.errors import CorruptStoreError, OutcomeUnknownError, SupersededError
from buffer_service.storage.epoch import EPOCH_FILE, Epoch
from buffer_service.storage.file_store import FileStore
from buffer_service.storage.fs import RealFileSystem
from buffer_service.storage.log import segment_name, segment_numbers
from buffer_service.storage.log_cut import cut
from buffer_service.storage.log_format import SEGMENT_HEADER_BYTES
from tests.helpers.simulated_fs import FOLDER, PowerLossError, SimulatedFileSystem
from tests.helpers.storage_invariants import check_recovered
from tests.helpers.storage_model import SHAPE, Model, group_of, random_operations
from tests.helpers.storage_open import commit_random
from tests.helpers.storage_simulation import SMALL, Later, open_simulated

FILE = FOLDER / EPOCH_FILE


def test_each_claim_is_higher_and_the_one_before_notices() -> None:
    """Whoever claimed last may go on; nobody else may."""
    system = SimulatedFileSystem()
    first = Epoch(system, FOLDER)
    first.check()
    second = Epoch(system, FOLDER)
    assert (first.number, second.number) == (1, 2)
    second.check()
    with pytest.raises(SupersededError, match=r"taken over this store \(epoch 2, this one has 1\)"):
        first.check()


def test_a_claim_torn_by_a_power_loss_never_leads_back() -> None:
    """Whatever is left of the slot that was written, the next claim is higher than every one that returned."""
    for seed in range(40):
        system = SimulatedFileSystem(seed)
        claimed = [Epoch(system, FOLDER).number for _ in range(1 + seed % 4)]
        system.power_off_at = system.steps + 2
        with pytest.raises(PowerLossError):
            Epoch(system, FOLDER)
        assert Epoch(system.after_power_loss(seed), FOLDER).number > claimed[-1]


def test_an_unreadable_epoch_refuses_to_start_and_says_what_to_do() -> None:
    """Guessing could give two processes the same epoch."""
    system = SimulatedFileSystem()
    Epoch(system, FOLDER)
    system.files[FILE].content[:] = b"\xff" * 600
    with pytest.raises(CorruptStoreError, match=r"no slot of it can be read; make sure .* then remove the file"):
        Epoch(system, FOLDER)


def test_a_claim_needs_no_space() -> None:
    """A service whose disk is full can be started anew."""
    system = SimulatedFileSystem()
    Epoch(system, FOLDER)
    system.capacity_bytes = 0
    assert Epoch(system, FOLDER).number == 2


def test_without_its_file_the_epoch_goes_on_behind_that_of_the_log() -> None:
    """A backup does not carry the file; what is written then still does not continue an older segment."""
    system, model = SimulatedFileSystem(), Model()
    for seed in range(3):
        model = commit_random(open_simulated(system), model, Random(seed))
    system.remove(FILE)
    store = open_simulated(system)
    check_recovered(store, model)
    numbers = segment_numbers(system.names(FOLDER))
    model = commit_random(store, model, Random(9))
    assert segment_numbers(system.names(FOLDER))[-1] == numbers[-1] + 1
    check_recovered(open_simulated(system), model)


class _TakenOver:
    """A commit of one process, in the midst of which another one takes over the store and writes to it."""

    def __init__(self, seed: int, at_step: int) -> None:
        self.system = SimulatedFileSystem(seed)
        self.random = Random(seed)
        self.first = open_simulated(self.system)
        self.acknowledged = Model()
        for _ in range(seed % 5):
            self.acknowledged = commit_random(self.first, self.acknowledged, self.random)
        self.begun = self.acknowledged
        self.final: Model | None = None
        self._countdown = at_step

    def commit(self) -> bool:
        """Tell whether the commit was acknowledged."""
        operations = random_operations(self.random, self.acknowledged, 3)
        group = group_of(self.first, operations)
        self.begun = self.acknowledged.copy()
        for operation in operations:
            self.begun.apply(operation)
        self.system.before_step = self._before_step
        try:
            self.first.commit(group)
        except OutcomeUnknownError:
            return False
        return True

    def _before_step(self, _kind: str, _path: Path) -> None:
        self._countdown -= 1
        if self._countdown == 0:
            self.system.before_step = lambda _kind, _path: None
            self.take_over()

    def take_over(self) -> None:
        """Open the store as another process does, and commit twice."""
        second = open_simulated(self.system)
        self.final = check_recovered(second, self.acknowledged, [self.begun])
        for _ in range(2):
            self.final = commit_random(second, self.final, self.random)


@pytest.mark.parametrize("seed", range(12))
def test_a_commit_that_is_overtaken_at_any_step_is_never_acknowledged(seed: int) -> None:
    """Before, between and after its own write and sync: the caller is told, and the other's state stays whole."""
    for at_step in count(1):
        case = _TakenOver(seed, at_step)
        if case.commit():
            assert case.final is None, "it was acknowledged, so nobody came in between"
            assert at_step > 2, "a commit takes a write and a sync at least"
            return
        assert case.final is not None
        check_recovered(open_simulated(case.system), case.final)
        check_recovered(open_simulated(case.system.after_power_loss(seed)), case.final)
        with pytest.raises(OutcomeUnknownError, match="taken over this store"):
            case.first.commit(group_of(case.first, random_operations(case.random, case.acknowledged, 1)))


def test_an_idle_process_that_was_superseded_notices_with_an_empty_group() -> None:
    """So it stops serving as the writer, though no write ever came."""
    system = SimulatedFileSystem()
    first = open_simulated(system)
    open_simulated(system)
    with pytest.raises(OutcomeUnknownError, match="taken over"):
        first.commit(group_of(first, []))


def test_restarts_do_not_pile_up_segments() -> None:
    """Each process that writes begins a segment; small ones are merged, so that their number stays bounded."""
    system, model, random = SimulatedFileSystem(), Model(), Random(0)
    background = Later()
    for _ in range(120):
        store = open_simulated(system, background)
        for _ in range(3):
            model = commit_random(store, model, random, 1)
            background.work()
    check_recovered(open_simulated(system), model)
    assert len(segment_numbers(system.names(FOLDER))) < 60


def test_a_cut_of_the_log_passes_over_what_a_superseded_process_wrote(tmp_path: Path) -> None:
    """Going back to a sequence that the later process wrote does not end in the bytes behind its predecessor's end."""
    system = RealFileSystem()
    first = FileStore(system, tmp_path, SHAPE, ThreadPoolExecutor(1), SMALL, lambda: None)
    model = commit_random(first, Model(), Random(0))
    path = tmp_path / segment_name(1)
    whole = path.read_bytes()
    commit_random(first, model, Random(1))
    stray = path.read_bytes()[len(whole) :]
    path.write_bytes(whole)
    second = FileStore(system, tmp_path, SHAPE, ThreadPoolExecutor(1), SMALL, lambda: None)
    states = [commit_random(second, model, Random(2))]
    states.append(commit_random(second, states[0], Random(3)))
    path.write_bytes(whole + stray)
    assert len(whole) > SEGMENT_HEADER_BYTES
    cut(tmp_path, states[0].sequence, states[1].sequence)
    third = FileStore(system, tmp_path, SHAPE, ThreadPoolExecutor(1), SMALL, lambda: None)
    check_recovered(third, states[0])
