"""Prioritised batches drawn ahead of the training step, so that it does not wait for the network.

A stream owns one thread, which alone draws, and which ends with the last batch, an error or ``close``. At most
``prefetch`` batches are held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from buffer_client.client import BufferClient
from buffer_client.errors import RateLimitedError, TooFewExperiencesError
from buffer_client.models import Include, Mode, SampleBatch, WeightNorm

_EMPTY_WAIT_S = 0.1

Beta = float | Callable[[int], float]
"""The exponent of the importance weights, or a function from the number of the batch, from 0, to it."""


class DrawOptions(TypedDict, total=False):
    """Keyword arguments of ``BufferClient.sample`` that are the same for every batch."""

    unique: bool
    mode: Mode | None
    filter: Mapping[str, Any] | None
    weight_norm: WeightNorm | None
    include: Include


class StreamOptions(DrawOptions, total=False):
    """Keyword arguments of a SampleStream, for those who pass them on."""

    prefetch: int
    beta: Beta | None
    min_size: int


@dataclass(frozen=True, slots=True)
class LinearBeta:
    """β from ``start`` at batch 0 to ``end`` at batch ``batches`` - 1, and ``end`` from then on.

    Early in training an error of the weights matters little, at convergence it must be gone: β ends at 1.
    """

    start: float
    end: float
    batches: int

    def __call__(self, number: int) -> float:
        """Return the exponent of this batch."""
        done = min(1.0, number / max(1, self.batches - 1))
        return self.start + (self.end - self.start) * done


class SampleStream(Iterator[SampleBatch]):
    """Batches of ``size`` draws, in the order of ``batches``, whose numbers ``beta`` is given; without end by default.

    Waits until the buffer holds ``min_size`` experiences, with ``unique`` at least ``size``, and while the service asks
    to wait for more of them. A batch that waits is as
    old as it has waited: its priorities are those of the draw, and its ``sequences`` tell a late update from a timely
    one. ``prefetch=0`` draws only when asked and uses no thread. Errors of a draw are raised in its place; the stream
    is then at its end. For one consumer.
    """

    def __init__(
        self,
        client: BufferClient,
        size: int,
        *,
        batches: Iterable[int] | None = None,
        prefetch: int = 2,
        beta: Beta | None = None,
        min_size: int = 1,
        **draw: Unpack[DrawOptions],
    ) -> None:
        if prefetch < 0:
            raise ValueError(f"prefetch is {prefetch}, it must be 0 or more")
        self._client = client
        self._size = size
        self._numbers = iter(count() if batches is None else batches)
        self._beta = beta
        self._draw_options = draw
        self._min_size = max(min_size, size if draw.get("unique") else 1)
        self._prefetch = prefetch
        self._changed = Condition()
        self._drawn: deque[SampleBatch | Exception | None] = deque()
        self._closed = False
        self._filled = False
        self._thread = Thread(target=self._fill, name="xbuf-sample", daemon=True) if prefetch else None
        if self._thread is not None:
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream, and its thread after the request under way; another thread may call this."""
        with self._changed:
            self._closed = True
            self._drawn.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def __next__(self) -> SampleBatch:
        """Return the next batch, never an empty one."""
        item = self._draw_next() if self._thread is None else self._take()
        if isinstance(item, SampleBatch):
            return item
        with self._changed:
            self._closed = True
        if item is None:
            raise StopIteration
        raise item

    def _take(self) -> SampleBatch | Exception | None:
        with self._changed:
            self._changed.wait_for(lambda: self._drawn or self._closed)
            item = self._drawn.popleft() if self._drawn else None
            self._changed.notify_all()
        return item

    def _fill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._drawn) < self._prefetch)
                if self._closed:
                    return
            item = self._draw_next()
            with self._changed:
                self._drawn.append(item)
                self._changed.notify_all()
            if not isinstance(item, SampleBatch):
                return

    def _draw_next(self) -> SampleBatch | Exception | None:
        """Return the next batch, the error in its place, or None at the end."""
        try:
            if self._closed or not self._wait_until_filled():
                return None
            number = next(self._numbers, None)
            return None if number is None else self._draw(number)
        except Exception as error:  # noqa: BLE001 - raised where the batch was asked for
            return error

    def _draw(self, number: int) -> SampleBatch | None:
        while True:
            beta = self._beta(number) if callable(self._beta) else self._beta
            with suppress(TooFewExperiencesError, RateLimitedError):
                batch = self._client.sample(self._size, beta=beta, **self._draw_options)
                if len(batch):
                    return batch
            if not self._pause():
                return None

    def _wait_until_filled(self) -> bool:
        while not self._filled:
            self._filled = self._client.status().size >= self._min_size
            if not self._filled and not self._pause():
                return False
        return True

    def _pause(self) -> bool:
        """Wait for more experiences to come; returns False when the stream is closed meanwhile."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._closed, _EMPTY_WAIT_S)
