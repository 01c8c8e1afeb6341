"""A client process that does everything at once against a service that is killed meanwhile, and writes its history.

Started by spawn. What the processes share: how far each has come, so that they search for and change each other's
experiences while those are being written. Nothing is retried by the client library: each attempt is one record.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import MutableSequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path

from buffer_client import BufferClient
from tests.helpers.history import key_of
from tests.helpers.history_recorder import Recorder

CONTEXT = multiprocessing.get_context("spawn")
_BATCH_MAX = 5


@dataclass(frozen=True)
class Shared:
    """One cell for each process, written by that process alone; ``stop`` ends all of them."""

    sent: MutableSequence[int]
    """How many experiences it has begun to append."""
    latest: MutableSequence[int]
    """The last id it was given."""
    done: MutableSequence[int]
    """How many operations were answered."""
    stop: Event

    @classmethod
    def of(cls, processes: int) -> Shared:
        """Return cells for so many processes."""
        sent, latest, done = (CONTEXT.Array("q", processes, lock=False) for _ in range(3))
        return cls(sent, latest, done, CONTEXT.Event())


@dataclass
class _Worker:
    """One process's choice of what to do next; ``own`` are the keys of its acknowledged appends."""

    recorder: Recorder
    shared: Shared
    random: random.Random
    own: list[list[str]] = field(default_factory=list)
    reports: int = 0

    def step(self) -> None:
        """Do one thing, with all its retries."""
        steps = {
            self.append: 30, self.search_own: 20, self.search_others: 15, self.draw_and_update: 15,
            self.report: 10, self.remove: 6, self.read: 8, self.list_some: 4, self.append_again: 2,
        }  # fmt: skip
        (step,) = self.random.choices(list(steps), list(steps.values()))
        step()
        self.shared.done[self.recorder.process] = self.recorder.answered

    def append(self) -> None:
        """Append one or several, and again with the same keys until it is known to be done."""
        process = self.recorder.process
        first = self.shared.sent[process]
        count = 1 if self.random.random() < 0.4 else self.random.randint(2, _BATCH_MAX)
        self.shared.sent[process] = first + count
        keys = [key_of(process, number) for number in range(first, first + count)]
        while not (appended := self.recorder.append(keys)).ok:
            if self.shared.stop.is_set():
                return
        self.own.append(keys)
        self.shared.latest[process] = appended.ids[-1]

    def append_again(self) -> None:
        """Repeat a recent append though it was acknowledged."""
        if self.own:
            self.recorder.append(self.random.choice(self.own[-5:]))

    def search_own(self) -> None:
        """Search for what was acknowledged last, or for many of some time ago, some of which have gone by now."""
        if not self.own:
            return
        keys = self.own[-1]
        if self.random.random() < 0.5:
            before = [key for keys in self.own[-40:] for key in keys]
            keys = self.random.sample(before, min(20, len(before)))
        self.recorder.search(keys, min_sequence=self.random.choice([0, None]))

    def search_others(self) -> None:
        """Search for what another process is appending at this moment, as a whole."""
        process = self.random.randrange(len(self.shared.sent))
        end = self.shared.sent[process]
        keys = [key_of(process, number) for number in range(max(0, end - _BATCH_MAX), end)]
        if keys:
            self.recorder.search(keys, min_sequence=0)

    def draw_and_update(self) -> None:
        """Sample, then set the priorities of these and of a fresh one, half of the time as of the sample."""
        draws = self.recorder.sample(4)
        conditional = self.random.random() < 0.5
        versions = dict(draws)
        updates = [(id_, self._priority(), version if conditional else None) for id_, version in versions.items()]
        hot = self._hot()
        if not conditional and hot and hot not in versions:
            updates.append((hot, self._priority(), None))
        if updates:
            self.recorder.set_priorities(updates)

    def report(self) -> None:
        """Report outcomes of fresh ones and drawn ones, and again with the same request_id until it is known."""
        ids = {id_ for id_, _ in self.recorder.sample(2)} | {self._hot()}
        outcomes = [(id_, self.random.random() < 0.5) for id_ in ids if id_]
        if not outcomes:
            return
        self.reports += 1
        request_id = f"{self.recorder.process}-report-{self.reports}"
        attempts = 1 + (self.random.random() < 0.2)
        while attempts and not self.shared.stop.is_set():
            attempts -= self.recorder.report(request_id, outcomes).ok

    def remove(self) -> None:
        """Remove one, often the same as other processes do, and look at it."""
        draws = self.recorder.sample(1) if self.random.random() < 0.5 else []
        id_ = draws[0][0] if draws else self._hot()
        if id_:
            self.recorder.remove(id_)
            self.recorder.get(id_)

    def read(self) -> None:
        """Read one that others change."""
        if hot := self._hot():
            self.recorder.get(hot)

    def list_some(self) -> None:
        """Read the newest, or a page somewhere."""
        newest = max(self.shared.latest)
        start = newest - 30 if self.random.random() < 0.5 else self.random.randint(0, newest + 1)
        self.recorder.page(max(0, start), 60)

    def _hot(self) -> int:
        """Return an id that several processes work on, 0 before there is one."""
        return self.shared.latest[0] if self.random.random() < 0.5 else self.random.choice(self.shared.latest)

    def _priority(self) -> float:
        return self.random.uniform(0.05, 5.0)


def work(url: str, process: int, seed: int, file: Path, shared: Shared) -> None:
    """Run one client process until it is told to stop."""
    with file.open("wb") as lines, BufferClient(url, retries=0) as client:
        worker = _Worker(Recorder(client, process, lines), shared, random.Random(f"{seed} {process}"))
        while not shared.stop.is_set():
            worker.step()
