"""The buffer as a data set of PyTorch, drawn from a real service, in this process and in spawned workers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from buffer_client import BufferClient, Experience, LinearBeta, SampleBatch, StoredExperience, UpdateStatus
from buffer_client.errors import UnauthorizedError, UnreachableError
from buffer_client.torch import ReplayDataset, TensorBatch, to_tensors, update_priorities
from tests.helpers.vectors import unit_vectors
from tests.integration.running import RunningService, running_service

DIMENSION = 8
ROWS = 200


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A buffer of two hundred experiences whose answer is their place."""
    with running_service(tmp_path_factory.mktemp("torch") / "data") as running:
        with BufferClient(running.url) as client:
            client.append_stream(
                Experience(visual=vector, confidence=0.5, answer=str(place))
                for place, vector in enumerate(unit_vectors(ROWS, DIMENSION), start=1)
            )
        yield running


class Labelled(NamedTuple):
    """What a training step of the tests needs."""

    ids: torch.Tensor
    sequences: torch.Tensor
    labels: torch.Tensor


def labelled(batch: SampleBatch) -> Labelled:
    """Turn answers into labels, in the worker."""
    drawn = to_tensors(batch)
    labels = torch.tensor([int(item.answer or 0) for item in drawn.experiences or []])
    return Labelled(drawn.ids, drawn.sequences, labels)


def test_batches_are_tensors_of_the_types_that_training_needs(service: RunningService) -> None:
    """As many as were asked for; the largest weight is one; probabilities and weights belong together."""
    dataset = ReplayDataset(partial(BufferClient, service.url), 32, batches=3, beta=1.0)

    batches = list(dataset)

    assert len(batches) == 3
    for batch in batches:
        assert isinstance(batch, TensorBatch)
        assert [tensor.shape for tensor in batch[:4]] == [(32,)] * 4
        assert [tensor.dtype for tensor in batch[:4]] == [torch.int64, torch.float32, torch.float64, torch.int64]
        assert batch.weights.max() == 1.0
        product = batch.weights.double() * batch.probabilities
        torch.testing.assert_close(product, product[:1].expand(32), rtol=1e-5, atol=0.0)
        assert (batch.table_size, batch.experiences, batch.vectors) == (ROWS, None, None)


def test_experiences_and_vectors_come_with_their_rows(service: RunningService) -> None:
    """Only if asked for; the vectors are one tensor."""
    dataset = ReplayDataset(
        partial(BufferClient, service.url), 50, batches=1, include=("experience", "vector"), unique=True, prefetch=0
    )

    (batch,) = dataset

    assert batch.experiences is not None
    assert [item.id for item in batch.experiences] == batch.ids.tolist()
    assert len(set(batch.ids.tolist())) == 50
    assert batch.vectors is not None
    torch.testing.assert_close(batch.vectors.norm(dim=1), torch.ones(50))


@pytest.mark.parametrize("context", ["spawn", "fork"])
def test_workers_draw_on_connections_of_their_own(
    service: RunningService, context: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Each takes its share of the batches; what a worker makes of them arrives as tensors."""
    dataset = ReplayDataset(
        partial(BufferClient, service.url),
        16,
        batches=7,
        collate=labelled,
        include=("experience",),
        beta=LinearBeta(0.4, 1.0, 7),
    )
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=context)

    batches = list(loader)

    assert len(batches) == 7
    for batch in batches:
        torch.testing.assert_close(batch.labels, batch.ids)
    assert len({tuple(batch.ids.tolist()) for batch in batches}) == 7
    assert [str(warning.message) for warning in recwarn] == []


def test_an_endless_loader_can_be_left_at_any_time(service: RunningService) -> None:
    """Workers end with it; each draw is a new one."""
    loader = DataLoader(
        ReplayDataset(partial(BufferClient, service.url), 16), batch_size=None, num_workers=1, prefetch_factor=2
    )

    seen = []
    for batch in loader:
        seen.append(tuple(batch.ids.tolist()))
        if len(seen) == 5:
            break

    assert len(set(seen)) == 5


def test_errors_of_a_training_step_become_priorities(service: RunningService) -> None:
    """Absolute value plus the floor, gradients or not; a second update of the same draw is stale."""
    dataset = ReplayDataset(partial(BufferClient, service.url), 4, batches=1, unique=True)
    (batch,) = dataset
    errors = torch.tensor([[-2.0], [0.5], [0.0], [3.0]], requires_grad=True)

    with BufferClient(service.url) as client:
        first = update_priorities(client, batch, errors, floor=0.25)
        second = update_priorities(client, batch, errors)
        priorities = [client.get(experience).priority for experience in batch.ids.tolist()]

    assert first == [UpdateStatus.APPLIED] * 4
    assert second == [UpdateStatus.STALE] * 4
    assert priorities == [2.25, 0.75, 0.25, 3.25]


def test_what_a_collate_function_made_can_be_answered_too(service: RunningService) -> None:
    """All that counts are the ids and the sequences."""
    dataset = ReplayDataset(
        partial(BufferClient, service.url), 8, batches=1, collate=labelled, include=("experience",), unique=True
    )
    (batch,) = dataset

    with BufferClient(service.url) as client:
        assert update_priorities(client, batch, torch.ones(8)) == [UpdateStatus.APPLIED] * 8


@pytest.mark.parametrize("workers", [0, 1])
def test_a_service_that_is_not_there_ends_the_loop_with_its_error(workers: int, tmp_path: Path) -> None:
    """Errors of a worker reach the training loop."""
    with running_service(tmp_path / "data") as gone:
        url = gone.url
    dataset = ReplayDataset(partial(BufferClient, url, retries=0), 8, batches=1)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)

    with pytest.raises(UnreachableError):
        list(loader)


def test_a_token_reaches_the_worker(tmp_path: Path) -> None:
    """With whatever else the connection is made with."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "write").write_text("write-token")
    with running_service(tmp_path / "data", auth__tokens_dir=tokens) as guarded:
        connect = partial(BufferClient, guarded.url, token="write-token")  # noqa: S106 - of this test alone
        with connect() as client:
            client.append(Experience(visual=[1.0] * DIMENSION, confidence=0.5))
        loader = DataLoader(ReplayDataset(connect, 4, batches=1), batch_size=None, num_workers=1)

        (batch,) = loader
        with pytest.raises(UnauthorizedError):
            list(ReplayDataset(partial(BufferClient, guarded.url), 4, batches=1))

    assert batch.ids.tolist() == [1] * 4


def test_tensors_share_the_memory_of_the_arrays_where_types_agree() -> None:
    """Only the weights are copied, to float32."""
    arrays = {name: np.arange(3, dtype=np.int64) for name in ("ids", "sequences")}
    floats = {name: np.ones(3) for name in ("probabilities", "weights")}

    batch = to_tensors(SampleBatch(**arrays, **floats, table_size=3, experiences=[StoredExperience(id=1)]))

    arrays["ids"][0] = 9
    assert batch.ids.tolist() == [9, 1, 2]
    assert batch.weights.dtype == torch.float32
