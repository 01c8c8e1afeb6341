"""The buffer as a PyTorch data set: prioritised batches as tensors, and priorities from the errors of a training step.

Needs the extra ``torch``; nothing else in this package imports it. A data set holds no connection: each iteration, in
each DataLoader worker, makes its own and draws on its own, so that workers may be forked or spawned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, NamedTuple, Protocol, TypeVar, Unpack, cast

import numpy as np

from buffer_client.client import BufferClient
from buffer_client.models import SampleBatch, StoredExperience, UpdateStatus
from buffer_client.samples import SampleStream, StreamOptions

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "torch":
        raise
    raise ImportError("buffer_client.torch needs PyTorch: pip install 'experience-buffer[torch]'") from error

T = TypeVar("T", covariant=True)  # noqa: PLC0105 - batches only come out

PRIORITY_FLOOR = 1e-3


class TensorBatch(NamedTuple):
    """A draw as tensors, one row for each experience; a named tuple, so that a DataLoader can pin its memory."""

    ids: torch.Tensor
    """int64."""
    weights: torch.Tensor
    """float32: importance weights, to multiply each row's loss with."""
    probabilities: torch.Tensor
    """float64."""
    sequences: torch.Tensor
    """int64; ``update_priorities`` needs them."""
    table_size: int
    experiences: list[StoredExperience] | None
    """One for each row; None unless asked for."""
    vectors: torch.Tensor | None
    """float32, (n, dimension); None unless asked for."""


class Drawn(Protocol):
    """What ``update_priorities`` needs of a batch: a TensorBatch, or what a collate function of the caller's made."""

    @property
    def ids(self) -> torch.Tensor:
        """Ids of the rows."""

    @property
    def sequences(self) -> torch.Tensor:
        """Sequences of the rows."""


def to_tensors(batch: SampleBatch) -> TensorBatch:
    """Turn a draw into tensors: the default collate function."""
    return TensorBatch(
        ids=torch.from_numpy(batch.ids),
        weights=torch.from_numpy(batch.weights.astype(np.float32)),
        probabilities=torch.from_numpy(batch.probabilities),
        sequences=torch.from_numpy(batch.sequences),
        table_size=batch.table_size,
        experiences=batch.experiences,
        vectors=None if batch.vectors is None else torch.from_numpy(batch.vectors),
    )


class ReplayDataset(IterableDataset[T], Generic[T]):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """An endless stream of prioritised batches, or ``batches`` of them, for a DataLoader with ``batch_size=None``.

    ``connect`` makes the client where the batches are drawn, such as ``partial(BufferClient, url, token=token)``.
    ``collate`` turns a draw into what is yielded, in the worker. For spawned workers both, and ``beta``, must be
    importable by name. With n workers each draws every n-th of ``batches``; draws are independent, so an experience
    may come from several. The other options are those of ``SampleStream``, but in a worker ``prefetch`` is 0 unless it
    is given: the DataLoader itself asks ahead, by its ``prefetch_factor``, and what is drawn earlier is staler.
    """

    def __init__(
        self,
        connect: Callable[[], BufferClient],
        size: int,
        *,
        batches: int | None = None,
        collate: Callable[[SampleBatch], T] | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        super().__init__()
        self._connect = connect
        self._size = size
        self._batches = batches
        self._collate = collate or cast("Callable[[SampleBatch], T]", to_tensors)
        self._options = options

    def __iter__(self) -> Iterator[T]:
        """Draw this worker's share; raises the errors of ``BufferClient.sample``."""
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        numbers = count(first, step) if self._batches is None else range(first, self._batches, step)
        options: StreamOptions = self._options if worker is None else {"prefetch": 0, **self._options}
        with self._connect() as client, SampleStream(client, self._size, batches=numbers, **options) as stream:
            for batch in stream:
                yield self._collate(batch)


def update_priorities(
    client: BufferClient, batch: Drawn, errors: torch.Tensor, *, floor: float = PRIORITY_FLOOR
) -> list[UpdateStatus]:
    """Set each row's priority to its absolute error plus ``floor``, durably, unless it was changed since the draw.

    ``errors`` are TD errors or losses, one for each row, on any device; no gradient is needed. The service bends
    priorities by its α; the floor keeps every experience drawable.
    """
    priorities = errors.detach().abs().to("cpu", torch.float64).flatten() + floor
    return client.update_priorities(batch.ids.numpy(force=True), priorities.numpy(), batch.sequences.numpy(force=True))
