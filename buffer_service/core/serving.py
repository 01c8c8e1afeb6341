"""What is served: the current view, and how a new generation takes its place.

The writer thread publishes every group here and installs generations; the follower thread prepares them. Readers only
take ``view``. Preparing loads, verifies and warms the generation and hides what is dead; what dies meanwhile is noted
and hidden at the switch, which is one assignment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

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
    delta: Delta
    """The rows above the generation, as they were when it was prepared."""


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
        delta = self._delta(None, *store.vectors(live[live > self.base_last_id]))  # file_delta does the rest
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

    def following(self, group: Group, coming: Coming | None) -> View:
        """Return the view after a committed group, with a generation installed in it. On the writer thread.

        It is to be published: what it shares with the view that is served has gone on already, unseen there.
        """
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
        return View(sequence, pointer, main, delta, delta.count)

    def publish(self, view: View) -> None:
        """Serve this view from here on. On the writer thread."""
        with self._published:
            self.view = view
            self._published.notify_all()

    def begin_switch(self) -> Ids:
        """Return the live ids, and note from here on what dies. On the writer thread, between groups."""
        self._died = []
        return self._store.table.live_ids()

    def abandon_switch(self) -> None:
        """Stop noting what dies. On the writer thread."""
        self._died = None

    def prepare(
        self, pointer: Pointer, main: MainIndex, live: Ids, between: Callable[[], object] = lambda: None
    ) -> Coming:
        """Hide what is dead in a generation, and file the rows above it under its centroids; after ``begin_switch``.

        Those rows are the delta's, and where the generation is older than the one in service, some of that one's.
        ``between`` is called after each piece of the work.
        """
        main.mark_all_dead_but(live, 0)
        last_id = main.manifest.last_id
        ids, vectors = self._store.vectors(live[(live > last_id) & (live <= self.base_last_id)])
        fresh_ids, fresh = self.view.delta.rows_after(last_id)
        ids, vectors = np.append(ids, fresh_ids), np.append(vectors, fresh, axis=0)
        return Coming(pointer, main, self._delta(main, ids, vectors, between))

    def file_delta(self, between_groups: Callable[[Callable[[], None]], Future[None]]) -> None:
        """File the delta's rows under the centroids of main; at a start they are scanned first, to answer sooner.

        Takes up to seconds when there is something to do. On the follower thread, so that no switch is under way.
        """
        view = self.view
        delta, filed = view.delta, view.delta_rows
        lists = None if view.main is None or delta.lists is not None else view.main.fresh_lists()
        if lists is not None:
            delta.file(lists, 0, filed)
            between_groups(lambda: delta.search_by(lists, filed)).result()

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
        main, delta = coming.main, coming.delta
        last_id = int(delta.ids[delta.count - 1]) if delta.count else main.manifest.last_id
        ids, vectors = self.view.delta.rows_after(last_id)
        if delta.count + len(ids) > delta.rows_max:
            before = delta.rows_after(0)
            delta = self._delta(main, np.append(before[0], ids), np.append(before[1], vectors, axis=0))
        else:
            delta.append(ids, vectors)
        for experience in self._died or ():
            if not delta.mark_dead(experience, sequence):
                main.mark_dead(experience, sequence)
        self._died = None
        self.base_last_id = main.manifest.last_id
        return main, delta, coming.pointer

    def _delta(
        self, main: MainIndex | None, ids: Ids, vectors: Vectors, between: Callable[[], object] = lambda: None
    ) -> Delta:
        """Return a delta that goes with the main index and holds these rows, with room up to what is allowed.

        More rows than that are there when a generation could not be loaded; then there is room for as many again.
        """
        embedding, rows_max = self._settings.embedding, self._settings.index.delta_rows_max
        if len(ids) > rows_max:
            rows_max += len(ids)
        delta = Delta(embedding.dimension, embedding.metric, rows_max, main.fresh_lists() if main else None)
        delta.append(ids, vectors, between)
        return delta
