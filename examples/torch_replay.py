"""Prioritised replay with PyTorch: a DataLoader over the buffer, weighted losses, and priorities from the errors.

The loop is the usual one of replay buffers: draw, compute the loss of each row, weigh it by importance, take a step,
write the errors back. Here the batches come over the network, from worker processes that draw ahead, and
the buffer is durable and shared: inference pods go on appending to it while this runs.

    python examples/torch_replay.py                                     # starts a buffer on this machine
    python examples/torch_replay.py --url http://demo.default.svc       # one of dimension 64; token in XBUF_TOKEN

Needs experience-buffer[service,demo,torch].
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from buffer_client import BufferClient, Experience, LinearBeta, SampleBatch
from buffer_client.torch import ReplayDataset, to_tensors, update_priorities
from buffer_service.contract.names import TOKEN_VARIABLE
from buffer_service.demo.digits import DIMENSION, LABELS, digit_stream
from buffer_service.demo.service import running_service

UNSEEN = 297
BATCH = 64


class Labelled(NamedTuple):
    """One batch, ready for a training step."""

    ids: torch.Tensor
    sequences: torch.Tensor
    weights: torch.Tensor
    pixels: torch.Tensor
    labels: torch.Tensor


def load(batch: SampleBatch) -> Labelled:
    """Turn a draw into inputs and targets; runs in the DataLoader's workers."""
    drawn = to_tensors(batch)
    images = digit_stream()
    places = [int((item.image_uri or "").removeprefix("digits:")) for item in batch.experiences or []]
    pixels = torch.from_numpy(np.array([images[place].pixels for place in places]))
    labels = torch.tensor([images[place].label for place in places])
    return Labelled(drawn.ids, drawn.sequences, drawn.weights, pixels, labels)


def fill(client: BufferClient) -> None:
    """Append what inference pods would have: answers, which of the images they were about, and how sure they were."""
    digits = digit_stream()[:-UNSEEN]
    client.append_stream(
        Experience(visual=digit.pixels, image_uri=f"digits:{place}", answer=str(digit.label), confidence=0.5)
        for place, digit in enumerate(digits)
    )


def train(connect: partial[BufferClient], client: BufferClient, batches: int, workers: int) -> torch.nn.Module:
    """Train on prioritised batches, and set the priorities of what was trained on."""
    dataset = ReplayDataset(
        connect,
        BATCH,
        batches=batches,
        collate=load,
        beta=LinearBeta(0.4, 1.0, batches),
        include=("experience",),
    )
    context = "spawn" if workers else None
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context)
    model = torch.nn.Sequential(torch.nn.Linear(DIMENSION, 64), torch.nn.ReLU(), torch.nn.Linear(64, LABELS))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    statuses: Counter[str] = Counter()
    for number, batch in enumerate(loader, start=1):
        errors = torch.nn.functional.cross_entropy(model(batch.pixels), batch.labels, reduction="none")
        optimizer.zero_grad()
        (errors * batch.weights).mean().backward()
        optimizer.step()
        statuses.update(update_priorities(client, batch, errors))
        if number % 50 == 0:
            print(f"batch {number:>4}  loss {errors.mean():.3f}  accuracy {accuracy(model):.1%}", flush=True)
    print("priorities:", ", ".join(f"{count} {status}" for status, count in statuses.items()))
    return model


def accuracy(model: torch.nn.Module) -> float:
    """Return the share of unseen digits that the model names rightly."""
    unseen = digit_stream()[-UNSEEN:]
    with torch.no_grad():
        named = model(torch.from_numpy(np.array([digit.pixels for digit in unseen]))).argmax(dim=1)
    return float((named == torch.tensor([digit.label for digit in unseen])).double().mean())


@contextmanager
def buffer_at(url: str | None) -> Iterator[str]:
    """Yield the address of a buffer: the one given, or one that is started here and ended at the end."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="xbuf-example-") as folder, running_service(Path(folder), 0) as started:
        yield started


def main() -> None:
    """Fill a buffer with digits, train on it, and say how well."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", help="an empty buffer of dimension 64 (default: start one here)")
    parser.add_argument("--batches", type=int, default=300, help="batches to train on (default 300)")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw and load; 0 for none (default 2)")
    given = parser.parse_args()
    with buffer_at(given.url) as url:
        connect = partial(BufferClient, url, token=os.environ.get(TOKEN_VARIABLE))
        with connect() as client:
            fill(client)
            model = train(connect, client, given.batches, given.workers)
    print(f"{accuracy(model):.1%} of {UNSEEN} unseen digits are named rightly")


if __name__ == "__main__":
    main()
