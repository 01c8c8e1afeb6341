"""Online learning: two loops that share nothing but an experience buffer.

The inference loop names handwritten digits as they stream in: it looks up the nearest past experiences, lets them vote,
answers, is told the truth, appends what happened in the background, and reports which neighbours helped. The training
loop, a thread with a client of its own, draws batches by priority, trains a scikit-learn classifier on them, each row
weighed by its importance weight, and sets the priority of each experience to its loss, so that what is still hard is
drawn more often. With --prefetch 2 the table shows stale priorities: of experiences that another batch changed after
they were drawn, which keep the newer one.

    python examples/online_learning.py                                      # starts a buffer on this machine
    python examples/online_learning.py --url http://demo.default.svc        # one of dimension 64; token in XBUF_TOKEN

Needs experience-buffer[service,demo]. Ends by itself.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import SGDClassifier

from buffer_client import (
    BackgroundAppender,
    BufferClient,
    Experience,
    LinearBeta,
    SampleBatch,
    SampleStream,
    StoredExperience,
    UpdateStatus,
    votes,
)
from buffer_service.contract.names import TOKEN_VARIABLE
from buffer_service.demo.digits import DIMENSION, LABELS, Digit, digit_stream
from buffer_service.demo.service import running_service

NEIGHBOURS = 5
UNSEEN = 297
BATCH = 64
REPORT_EVERY = 200
ANSWERS_PER_BATCH = 2
LEARNING_RATE = 0.02
PRIORITY_FLOOR = 0.01

Floats = npt.NDArray[np.float64]


@dataclass
class Run:
    """What both loops know of the run. Each field is written by one thread; the other reads it to report."""

    url: str
    token: str | None
    images: Sequence[Digit]
    """An experience says which of these it was, by its image_uri: large inputs stay where they are."""
    ends_at: float
    id: str = field(default_factory=lambda: uuid4().hex[:12])
    due: Semaphore = field(default_factory=lambda: Semaphore(0))
    """A permit for each batch: training keeps pace with what comes in, instead of wearing out the first experiences."""
    model: SGDClassifier | None = None
    """Replaced, never changed, by the training loop."""
    batches: int = 0
    statuses: dict[UpdateStatus, int] = field(default_factory=lambda: dict.fromkeys(UpdateStatus, 0))

    def connect(self) -> BufferClient:
        """Return a client; each loop has its own, as if they ran in different pods."""
        return BufferClient(self.url, token=self.token)

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.ends_at


# The inference side.


def infer(run: Run, answers: int) -> int:
    """Answer the stream; returns how many were answered before the time was up."""
    right: list[bool] = []
    with run.connect() as client, BackgroundAppender(client) as appender:
        metric = client.status().metric
        for place, digit in enumerate(run.images[:answers]):
            found = client.search(
                digit.pixels, k=NEIGHBOURS, filter={"run": run.id}, include=("experience",), min_sequence=0
            )
            (outcome,) = votes(found, label_of, metric=metric)
            answer = outcome.winner if outcome else 0
            right.append(answer == digit.label)
            appender.put(
                Experience(
                    visual=digit.pixels,
                    image_uri=f"digits:{place}",
                    question="Which digit is this?",
                    answer=str(answer),
                    confidence=outcome.confidence if outcome else 1 / LABELS,
                    reward=1.0 if right[-1] else -1.0,
                    metadata={"run": run.id, "label": digit.label},
                )
            )
            if found.experiences and found.experiences[0]:
                neighbours = found.experiences[0]
                helped = [label_of(neighbour) == digit.label for neighbour in neighbours]
                client.report_outcomes([neighbour.id for neighbour in neighbours], helped)
            if len(right) % ANSWERS_PER_BATCH == 0:
                run.due.release()
            if len(right) % REPORT_EVERY == 0:
                report(run, right)
            if run.is_over:
                break
    return len(right)


def label_of(experience: StoredExperience) -> int:
    """Return what a neighbour votes for: what turned out to be true."""
    return int((experience.metadata or {})["label"])


# The training side.


def batches_of(client: BufferClient, count: int, prefetch: int) -> SampleStream:
    """Draw as soon as there is an experience; weights grow to their full strength towards the end."""
    beta = LinearBeta(0.4, 1.0, count)
    return SampleStream(client, BATCH, batches=range(count), prefetch=prefetch, beta=beta, include=("experience",))


def train(run: Run, client: BufferClient, batches: SampleStream) -> None:
    """Train on batches drawn by priority, and say what each experience still has to teach."""
    for batch in batches:
        run.due.acquire()
        if run.is_over:
            break
        pixels, labels, mine = load(run, batch)
        if not len(mine):
            continue
        losses = losses_of(run.model, pixels, labels)
        run.model = trained(run.model, pixels, labels, batch.weights[mine])
        for status in client.update_priorities(batch.ids[mine], losses + PRIORITY_FLOOR, batch.sequences[mine]):
            run.statuses[status] += 1
        run.batches += 1


def load(run: Run, batch: SampleBatch) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return pixels and labels of those in the batch that are of this run, and their places in it."""
    experiences = batch.experiences or []
    mine = [place for place, item in enumerate(experiences) if (item.metadata or {}).get("run") == run.id]
    places = [int((experiences[place].image_uri or "").removeprefix("digits:")) for place in mine]
    pixels = np.array([run.images[place].pixels for place in places], np.float64).reshape(-1, DIMENSION)
    labels = np.array([label_of(experiences[place]) for place in mine], np.int64)
    return pixels, labels, np.array(mine, np.int64)


def trained(
    model: SGDClassifier | None, pixels: Floats, labels: npt.NDArray[np.int64], weights: Floats
) -> SGDClassifier:
    """Return the model after a step on this batch, in which each row counts by its importance weight."""
    following = deepcopy(model) or SGDClassifier(loss="log_loss", learning_rate="constant", eta0=LEARNING_RATE)
    return following.partial_fit(pixels, labels, classes=np.arange(LABELS), sample_weight=weights)


def losses_of(model: SGDClassifier | None, pixels: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Return the cross entropy of each row; before the first step that of a guess."""
    if model is None:
        return np.full(len(labels), np.log(LABELS))
    shares = model.predict_proba(pixels)[np.arange(len(labels)), labels]
    return -np.log(np.maximum(shares, np.finfo(np.float64).tiny))


# What came of it.


def report(run: Run, right: list[bool]) -> None:
    """Print one row of the table."""
    if len(right) == REPORT_EVERY:
        print(f"{'answers':>8} {'vote right':>11} {'model right':>12} {'batches':>8} {'priorities':>11} {'stale':>6}")
    recent = right[-REPORT_EVERY:]
    print(
        f"{len(right):>8} {sum(recent) / len(recent):>11.1%} {model_accuracy(run):>12.1%} {run.batches:>8} "
        f"{run.statuses[UpdateStatus.APPLIED]:>11} {run.statuses[UpdateStatus.STALE]:>6}",
        flush=True,
    )


def model_accuracy(run: Run) -> float:
    """Return the share of unseen digits that the trained model names rightly."""
    if run.model is None:
        return 1 / LABELS
    unseen = run.images[-UNSEEN:]
    named = run.model.predict(np.array([digit.pixels for digit in unseen], np.float64))
    return float(np.mean(named == [digit.label for digit in unseen]))


def vote_accuracy(run: Run) -> float:
    """Return the share of unseen digits that the vote names rightly, in one request for all of them."""
    unseen = run.images[-UNSEEN:]
    with run.connect() as client:
        queries = np.array([digit.pixels for digit in unseen])
        found = client.search(queries, k=NEIGHBOURS, filter={"run": run.id}, include=("experience",))
        outcomes = votes(found, label_of, metric=client.status().metric)
    pairs = zip(outcomes, unseen, strict=True)
    return sum(outcome is not None and outcome.winner == digit.label for outcome, digit in pairs) / len(unseen)


@contextmanager
def buffer_at(url: str | None) -> Iterator[str]:
    """Yield the address of a buffer: the one given, or one that is started here and ended at the end."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="xbuf-example-") as folder, running_service(Path(folder), 0) as started:
        yield started


def main() -> None:
    """Run both loops beside each other, then judge both learners on digits that neither has seen."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", help="a running buffer of dimension 64 (default: start one here)")
    parser.add_argument("--answers", type=int, default=1200, help="digits to answer, at most 1500 (default 1200)")
    parser.add_argument("--seconds", type=float, default=40.0, help="end after this time in any case (default 40)")
    parser.add_argument(
        "--prefetch", type=int, default=0, help="batches drawn ahead, with older priorities (default 0)"
    )
    given = parser.parse_args()
    with buffer_at(given.url) as url, ThreadPoolExecutor(1) as threads:
        started = time.monotonic()
        run = Run(url, os.environ.get(TOKEN_VARIABLE), digit_stream(), started + given.seconds)
        answers = min(given.answers, len(run.images) - UNSEEN)
        with run.connect() as client, batches_of(client, answers // ANSWERS_PER_BATCH, given.prefetch) as batches:
            training = threads.submit(train, run, client, batches)
            try:
                answered = infer(run, answers)
            finally:
                run.due.release()  # One more, in case that training waits for answers that do not come.
            training.result()
        took_s = time.monotonic() - started
        print(f"{answered} answers and {run.batches} batches of {BATCH} in {took_s:.1f} s; of {UNSEEN} unseen digits")
        print(f"{vote_accuracy(run):>7.1%} are named rightly by the vote of {NEIGHBOURS} neighbours")
        print(f"{model_accuracy(run):>7.1%} are named rightly by the model trained on prioritised batches")


if __name__ == "__main__":
    main()
