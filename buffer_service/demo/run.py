"""One run of the demo, from the first digit to the checks."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn
from uuid import uuid4

from rich.console import Console

from buffer_client import BufferClient, ClientError, OutcomeUnknownError
from buffer_client.errors import UnreachableError
from buffer_service.contract.status import ServiceStatus
from buffer_service.demo.checks import run_checks
from buffer_service.demo.digits import DIMENSION, Digit, digit_stream
from buffer_service.demo.learner import Learner
from buffer_service.demo.progress import Progress
from buffer_service.demo.service import ServiceFailedError, running_service
from buffer_service.demo.trainer import EVERY_STEPS, Trainer
from buffer_service.demo.view import View, show_checks

FAILED = 1
WRONG_USE = 2
_FAILURES_MAX = 20
_PLAIN_WIDTH = 140
_WAIT_BETWEEN_SEARCHES_S = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    url: str | None
    token: str | None
    data: Path | None
    port: int | None
    once: bool
    switches: int
    patience_s: float


def run(options: Options) -> int:
    """Run the demo; returns 0 if every check held, 1 if one failed, 2 where it could not be run at all."""
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    signal.signal(signal.SIGTERM, _end)
    try:
        with _service(options) as url:
            code = _learn_and_check(console, options, url)
            if not options.once and options.url is None:
                _leave_running(console, url)
            return code
    except (ServiceFailedError, ClientError) as error:
        sys.stderr.write(f"xbuf demo: {error}\n")
        return WRONG_USE
    except KeyboardInterrupt:
        console.print("stopped")
        return 128 + signal.SIGINT


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


@contextmanager
def _service(options: Options) -> Iterator[str]:
    if options.url is not None:
        yield options.url
        return
    folder = nullcontext(str(options.data)) if options.data else tempfile.TemporaryDirectory(prefix="xbuf-demo-")
    with folder as data, running_service(Path(data), options.port) as url:
        yield url


def _learn_and_check(console: Console, options: Options, url: str) -> int:
    digits = digit_stream()
    progress = Progress(total=len(digits), run_id=uuid4().hex[:12], generation=0)

    def retried(error: ClientError) -> None:
        if isinstance(error, UnreachableError | OutcomeUnknownError):
            progress.failures.append(str(error))

    with BufferClient(url, token=options.token, on_retry=retried) as client:
        status = client.status()
        if status.dimension != DIMENSION:
            console.print(f"{url} holds vectors of dimension {status.dimension}; the digits need {DIMENSION}")
            return WRONG_USE
        progress.failures.clear()
        progress.generation = status.generation
        _introduce(console, url, status)
        started = time.monotonic()
        with View(console, progress) as view:
            learner = Learner(client, progress, status.metric, own_only=status.size > 0)
            _stream(digits, learner, Trainer(client, progress), progress, view)
            _wait_for_switches(client, digits, progress, options, view)
        console.print(f"run {progress.run_id}: {len(progress.correct)} digits in {time.monotonic() - started:.1f} s")
        checks = run_checks(client, progress, options.switches)
    show_checks(console, checks)
    return 0 if all(check.holds for check in checks) else FAILED


def _introduce(console: Console, url: str, status: ServiceStatus) -> None:
    console.print(f"buffer at {url}: {status.store.backend} store, FAISS on {status.backend.active}; look at {url}/")
    if status.size:
        console.print(f"it holds {status.size} experiences already; only those of this run vote and are checked")


def _stream(digits: Sequence[Digit], learner: Learner, trainer: Trainer, progress: Progress, view: View) -> None:
    for number, digit in enumerate(digits, start=1):
        try:
            learner.answer(digit)
            if number % EVERY_STEPS == 0:
                trainer.train()
        except ClientError as error:
            progress.failures.append(str(error))
            if len(progress.failures) > _FAILURES_MAX:
                raise
        view.step()


def _wait_for_switches(
    client: BufferClient, digits: Sequence[Digit], progress: Progress, options: Options, view: View
) -> None:
    """Go on searching until the last rebuilds have been taken over: they run beside the stream."""
    deadline = time.monotonic() + options.patience_s
    place = 0
    while len(progress.switches) < options.switches and time.monotonic() < deadline:
        if place == 0:
            view.note(f"waiting for index switch {len(progress.switches) + 1} of {options.switches}, still searching")
        started = time.perf_counter()
        found = client.search(digits[place % len(digits)].pixels, k=1)
        progress.search_s.append(time.perf_counter() - started)
        progress.saw_generation(found.generation)
        place += 1
        view.step()
        time.sleep(_WAIT_BETWEEN_SEARCHES_S)


def _leave_running(console: Console, url: str) -> None:
    console.print(f"\nThe page is at [bold]{url}/[/]. Ctrl-C ends the service.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("stopping the service")
