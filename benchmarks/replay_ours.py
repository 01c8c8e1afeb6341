"""The product's sampler and table as contestants of the replay benchmark, in process, without disk.

``sampler``: columns of the table are set, and the sampler follows; nothing else. ``bent``: the same with the exponent
that the peers have, for which ours keeps more sums. ``writer``: what the writer does besides its commit, plan and
publish. Run: python -m benchmarks.replay_ours sampler | bent | writer SIZE ...
"""

from __future__ import annotations

import sys
import time

import numpy as np
import numpy.typing as npt

from benchmarks.peers.replay_loop import ALPHA, BATCH, BETA, Priorities, Slice, serve, slices
from buffer_service.core.plan import Plan, PriorityUpdate
from buffer_service.core.sampler import Drawn, Sampler
from buffer_service.settings import SamplingSettings, Settings
from buffer_service.storage.group import Group
from buffer_service.storage.operations import Append, Evict
from buffer_service.storage.rows import COLUMNS, Header, Image
from buffer_service.storage.table import Table

_FINGERPRINT = bytes(16)


class Ours:
    """A full table and its sampler; priorities are set in the columns at once."""

    def __init__(self, size: int, alpha: float) -> None:
        self._settings = Settings(sampling=SamplingSettings(alpha=alpha))
        self._table = _full_table(size)
        self._sampler = Sampler(self._settings.sampling, self._table, time.time())

    def add(self) -> None:
        """See Buffer: evict and append, planned before and published as the writer does."""
        group = Group.on(self._table)
        sequence, oldest, now_s = group.header.sequence, self._table.oldest_id(), time.time()
        for offset in range(BATCH):
            sequence += 2
            experience = group.header.next_id
            group.apply(Evict(sequence - 1, oldest + offset))
            group.apply(Append(sequence, experience, now_s, 0.5, f"{experience:032x}", _FINGERPRINT, b"", b""))
        self._publish(group)

    def sample(self) -> Drawn:
        """See Buffer."""
        return self._sampler.draw(BATCH, BETA, time.time(), unique=False)

    def update(self, drawn: Drawn, priorities: Priorities) -> None:
        """See Buffer."""
        table = self._table
        slots = table.slots_of(drawn.ids)
        with table.lock:
            table.header.sequence += 1
            table.priority[slots] = priorities
            table.version[slots] = table.header.sequence
            self._sampler.note(slots)

    def _publish(self, group: Group) -> None:
        with self._table.lock:
            self._sampler.note(group.publish())


class AsTheWriter(Ours):
    """The same, but priorities are set as the writer does for a request."""

    def update(self, drawn: Drawn, priorities: Priorities) -> None:
        """See Buffer."""
        group = Group.on(self._table)
        pairs = zip(drawn.ids.tolist(), priorities.tolist(), strict=True)
        plan = Plan(group, self._settings, 0, time.time())
        plan.set_priorities([PriorityUpdate(experience, priority) for experience, priority in pairs])
        self._publish(group)


def _full_table(size: int) -> Table:
    random = np.random.default_rng(0)
    now_s = time.time()
    columns: dict[str, npt.NDArray[np.int64] | npt.NDArray[np.float64]] = {
        name: np.zeros(size, np.int64) for name in COLUMNS
    }
    columns["ids"] = columns["version"] = np.arange(1, size + 1)
    columns["priority"] = random.uniform(0.1, 1.0, size)
    columns["created_at"] = np.sort(now_s - random.uniform(0.0, 86_400.0, size))
    names: list[tuple[str | None, bytes]] = [(f"{number:032x}", _FINGERPRINT) for number in range(1, size + 1)]
    return Table.restored(Image(Header(sequence=size, next_id=size + 1), columns, names, [], []))


_DEFAULT_ALPHA = SamplingSettings().alpha
_KINDS = {"sampler": (Ours, _DEFAULT_ALPHA), "bent": (Ours, ALPHA), "writer": (AsTheWriter, _DEFAULT_ALPHA)}


def main() -> None:
    """Answer commands."""
    name, *sizes = sys.argv[1:]
    kind, alpha = _KINDS[name]
    timed: dict[str, Slice] = {}
    for size in map(int, sizes):
        timed |= slices(kind(size, alpha), size)
    serve(f"ours: {'writer' if kind is AsTheWriter else 'sampler'}, α={alpha:g}", timed)


if __name__ == "__main__":
    main()
