"""A real service in a process of its own, on a folder and a free port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LISTENING = "listening on "
_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class RunningService:
    """Its address, and its process, for tests that kill it."""

    url: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running_service(
    folder: Path, port: int = 0, *, prefix: Sequence[str | Path] = (), **settings: object
) -> Iterator[RunningService]:
    """Run a service with dimension 8 and these settings, such as ``rebuild__every_operations=50``.

    ``prefix`` is a command that runs it; it logs beside the folder.
    """
    given = {"embedding__dimension": 8, **settings}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("XBUF_")}
    environment = inherited | {f"XBUF_{name.upper()}": str(value) for name, value in given.items()}
    command = [*prefix, sys.executable, "-m", "buffer_service.cli", "serve", "--data", str(folder), "--port", str(port)]
    log = folder.with_name(f"{folder.name}.log")
    with (
        log.open("a") as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            assert line.startswith(_LISTENING), f"the service did not start: {log.read_text()}"
            yield RunningService(line.removeprefix(_LISTENING).strip(), process)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
