"""What is served: the current view, and how a new generation takes its place.

The writer thread publishes every group here and installs generations; the follower thread prepares them. Readers only
take ``view``. Preparing loads, verifies and warms the generation and hides what is dead; what dies meanwhile is noted
and hidden at the switch, which is one assignment.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from buffer_service.contract.generation import Manifest
from buffer_service.contract.pointer import Pointer
from buffer_service.errors import SequenceTimeoutError
from buffer_service.index.delta import Delta
from buffer_service.index.main import MainIndex
from buffer_service.index.metric import Ids, Vectors
from buffer_service.index.view import View
from buffer_service.settings import Settings
from buffer_service.storage.base import Store
from buffer_service.storage.group import Group


@dataclass(frozen=True, slots=True)
class Coming:
    """A generation that is ready to be installed."""

    pointer: Pointer
    main: MainIndex
    older: tuple[Ids, Vectors]
    """Rows that are in the generation in service but not in this one; empty unless it goes back."""


class Serving:
    """Holds the view. ``base_last_id`` is the highest id that the delta does not hold."""

    def __init__(self, settings: Settings, store: Store, pointer: Pointer, main: MainIndex | None) -> None:
        self._settings = settings
        self._store = store
        self.base_last_id = 0 if main is None else main.manifest.last_id
        live = store.table.live_ids()
        sequence = store.table.header.sequence
        if main is not None:
            main.mark_all_dead_but(live, sequence)
        ids, vectors = store.vectors(live[live > self.base_last_id])
        rows_max = settings.index.delta_rows_max
        delta = Delta(settings.embedding.dimension, settings.embedding.metric, max(rows_max, 2 * len(ids)))
        delta.append(ids, vectors)
        self._died: list[int] | None = None
        self._published = threading.Condition()
        self.view = View(sequence, pointer, main, delta, delta.count)

    def delta_room(self) -> int:
        """Return how many rows the delta still takes. On the writer thread."""
        return self.view.delta.rows_max - self.view.delta.count

    def pending_operations(self) -> int:
        """Return the appends, evictions and removals since the watermark of what is served."""
        view = self.view
        appended = self._store.table.header.next_id - 1 - self.base_last_id
        return appended + (view.main.tombstones if view.main else 0)

    def apply(self, group: Group, coming: Coming | None) -> None:
        """Bring the index up to a committed group, and install a generation with it. On the writer thread."""
        sequence = group.header.sequence
        view = self.view
        if group.appended:
            ids = np.fromiter(group.appended, np.int64, len(group.appended))
            data = b"".join(append.vector for append in group.appended.values())
            view.delta.append(ids, np.frombuffer(data, np.float32).reshape(len(ids), -1))
        for experience in group.dropped:
            self._hide(view, experience, sequence)
        main, delta, pointer = view.main, view.delta, view.pointer
        if coming is not None:
            main, delta, pointer = self._install(coming, sequence)
        self._publish(View(sequence, pointer, main, delta, delta.count))

    def begin_switch(self) -> Ids:
        """Return the live ids, and note from here on what dies. On the writer thread, between groups."""
        self._died = []
        return self._store.table.live_ids()

    def abandon_switch(self) -> None:
        """Stop noting what dies. On the writer thread."""
        self._died = None

    def rows_missing_from(self, manifest: Manifest, live: Ids) -> tuple[Ids, Vectors]:
        """Return the rows that main holds now and a generation of this manifest would not: needed when going back."""
        return self._store.vectors(live[(live > manifest.last_id) & (live <= self.base_last_id)])

    def wait_for(self, sequence: int, timeout_s: float) -> View:
        """Return a view of at least this sequence number; raises SequenceTimeoutError when it does not come."""
        if self.view.sequence < sequence:
            with self._published:
                if not self._published.wait_for(lambda: self.view.sequence >= sequence, timeout_s):
                    raise SequenceTimeoutError(
                        f"sequence {sequence} was not reached, this buffer is at {self.view.sequence}"
                    )
        return self.view

    def _hide(self, view: View, experience: int, sequence: int) -> None:
        if self._died is not None:
            self._died.append(experience)
        if not view.delta.mark_dead(experience, sequence) and view.main is not None:
            view.main.mark_dead(experience, sequence)

    def _install(self, coming: Coming, sequence: int) -> tuple[MainIndex, Delta, Pointer]:
        for experience in self._died or ():
            coming.main.mark_dead(experience, sequence)
        delta = self.view.delta.after(coming.main.manifest.last_id, self._settings.index.delta_rows_max)
        ids, vectors = coming.older
        if len(ids):
            alive = ~np.isin(ids, self._died or [])
            together = Delta(vectors.shape[1], delta.metric, max(delta.rows_max, 2 * (len(ids) + delta.count)))
            together.append(ids[alive], vectors[alive])
            together.append(delta.ids[: delta.count], delta.vectors[: delta.count])
            delta = together
        self._died = None
        self.base_last_id = coming.main.manifest.last_id
        return coming.main, delta, coming.pointer

    def _publish(self, view: View) -> None:
        with self._published:
            self.view = view
            self._published.notify_all()
