"""Starting the process of ``storage_killed`` and judging what it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

from tests.helpers import storage_killed
from tests.helpers.storage_invariants import check_recovered
from tests.helpers.storage_open import opened

ENDLESS = 1_000_000
_ROOT = Path(__file__).parents[2]


def start_writer(
    backend: str, folder: Path, seed: int, *prefix: str, commits: int = ENDLESS, output: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start a process that commits; ``prefix`` is a command that runs it, ``output`` where it prints to."""
    return subprocess.Popen(
        [*prefix, sys.executable, storage_killed.__file__, backend, str(folder), str(seed), str(commits)],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )


def kill_after(writer: subprocess.Popen[str], commits: int) -> list[str]:
    """Kill the process when it has printed so many outcomes, and return all that it printed."""
    assert writer.stdout is not None
    lines = list(islice(writer.stdout, commits))
    writer.send_signal(signal.SIGKILL)
    rest, errors = rest_of(writer)
    assert lines, errors
    return "".join([*lines, rest]).split("\n")[:-1]


def rest_of(writer: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end of a process, and return what of its output was not read yet, and its errors.

    ``communicate`` would leave out what a reader of lines has buffered.
    """
    assert writer.stdout is not None
    assert writer.stderr is not None
    with writer:
        return writer.stdout.read(), writer.stderr.read()


def check_after_power_loss(backend: str, folder: Path, seed: int, before: list[str], after: list[str]) -> None:
    """Open what was left by a process whose file system was shut down, and check it against what it printed.

    ``before`` is what had been read when that began, ``after`` all the rest. The last commit acknowledged then is in
    doubt: of a sync that is under way while ext4 is shut down it may say that it succeeded, for to its journal a
    transaction that was given up is as gone as one that is done. Where power really fails nobody hears of that.
    """
    acknowledged = [place for place, line in enumerate(after) if line == storage_killed.ACKNOWLEDGED]
    surely, _ = storage_killed.replay(seed, [*before, *after[: acknowledged[-1] if acknowledged else len(after)]])
    states = storage_killed.replay(seed, [*before, *after])
    with opened(backend, folder) as store:
        check_recovered(store, surely, states)


def check_left_behind(backend: str, folder: Path, seed: int, lines: list[str]) -> None:
    """Open what the process left and check it against what it printed."""
    acknowledged, in_doubt = storage_killed.replay(seed, lines)
    with opened(backend, folder) as store:
        check_recovered(store, acknowledged, [in_doubt])
