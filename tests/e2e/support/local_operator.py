"""An operator of this checkout that runs as a process beside the tests, for what cannot be done to one in the cluster.

It serves the namespaces it is given, so the one that is installed must not: see the fixture ``nobody_else``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.waiting import wait_until

_REPOSITORY = Path(__file__).parents[3]
_PORT = re.compile(r"probes and metrics on port (\d+)")
_START_S = 30.0
_STOP_S = 30.0


class LocalOperator:
    """One process; options are the operator's settings."""

    def __init__(self, folder: Path, image: str, kubeconfig: str | Path, **options: object) -> None:
        self._log_path = folder / f"operator-{len(list(folder.glob('operator-*')))}.log"
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        flags += ["--host=127.0.0.1", "--port=0", f"--image={image}"]
        environment = os.environ | {"KUBECONFIG": str(kubeconfig), "PYTHONPATH": os.pathsep.join(_paths())}
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "buffer_operator", *flags], env=environment, stdout=log, stderr=log
            )
        self._port = 0

    def wait_started(self) -> None:
        """Wait until it answers on its port."""
        found = wait_until(lambda: _PORT.search(self.log()) or self.ended(), f"a port: {self.log()}", _START_S)
        assert not isinstance(found, bool), self.log()
        self._port = int(found.group(1))

    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def log(self) -> str:
        """Return what it has written so far."""
        return self._log_path.read_text()

    def ask(self, path: str) -> str:
        """Ask its port of probes and metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        """Return a metric, the sum over its labels."""
        lines = (line.rsplit(" ", 1) for line in self.ask("/metrics").splitlines() if not line.startswith("#"))
        return sum(float(value) for key, value in lines if key.partition("{")[0] == name)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal, also where it is suspended; returns the exit status."""
        if not self.ended():
            self.process.send_signal(how)
            self.process.send_signal(signal.SIGCONT)
        return self.process.wait(_STOP_S)


@contextmanager
def running(folder: Path, image: str, kubeconfig: str | Path, **options: object) -> Iterator[LocalOperator]:
    """Yield an operator that has started; it is gone afterwards."""
    operator = LocalOperator(folder, image, kubeconfig, **options)
    try:
        operator.wait_started()
        yield operator
    finally:
        operator.stop(signal.SIGKILL)
        sys.stdout.write(operator.log())  # shown where the test fails


def _paths() -> list[str]:
    return [str(_REPOSITORY), str(_REPOSITORY / "operator")]
