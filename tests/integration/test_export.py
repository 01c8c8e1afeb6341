"""Exports for analysis: over HTTP while writes go on, by both clients, by the command from a folder or a service."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffer_client import AsyncBufferClient, BufferClient, Experience
from buffer_client.errors import ForbiddenError, NotInstalledError, UnauthorizedError
from buffer_service.contract.names import TOKEN_VARIABLE
from buffer_service.storage.lock import LOCK_FILE
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import RunningService, running_service

CAPACITY = 2000
ROWS = unit_vectors(500, 8)
TOKENS = {scope: f"{scope}-token" for scope in ("read", "write")}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A full buffer, where tokens are needed."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "tokens").mkdir()
    for scope, token in TOKENS.items():
        (folder / "tokens" / scope).write_text(token)
    settings = {"auth__tokens_dir": folder / "tokens", "buffer__capacity": CAPACITY, "rebuild__mode": "off"}
    with running_service(folder / "data", **settings) as running, writer_of(running) as client:
        for _ in range(CAPACITY // 500):
            client.append_stream(experiences())
        yield running


def writer_of(service: RunningService) -> BufferClient:
    """Return a client that may write."""
    return BufferClient(service.url, token=TOKENS["write"])


def experiences() -> list[Experience]:
    """Return five hundred, each with its number."""
    return [Experience(visual=row, confidence=0.5, answer=str(n), reward=n) for n, row in enumerate(ROWS)]


def read(path: Path) -> pa.Table:
    """Read either form."""
    return pq.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(path).read_all()


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_an_export_is_of_one_sequence_while_writes_go_on(service: RunningService, tmp_path: Path, kind: str) -> None:
    """Each append evicts as many; the file holds exactly what was live at its sequence number, in order."""
    stop = threading.Event()
    appended: list[int] = []

    def append() -> None:
        with writer_of(service) as client:
            while not stop.is_set():
                appended.append(client.append(experiences()[:50]).sequence)

    writing = threading.Thread(target=append)
    writing.start()
    try:
        wait_until(lambda: bool(appended), "the first append")
        for number in range(3):
            path = tmp_path / f"{number}.{kind}"
            answer = httpx.get(f"{service.url}/v1/export?format={kind}", headers=authorized("read"))
            path.write_bytes(answer.content)
            table = read(path)

            ids = table["id"].to_pylist()
            assert ids == list(range(ids[0], ids[0] + CAPACITY))
            assert table.schema.metadata[b"sequence"].decode() == answer.headers["x-sequence"]
            assert max(table["sequence"].to_pylist()) <= int(answer.headers["x-sequence"])
            rewards = np.array(table["reward"].to_pylist(), int)
            np.testing.assert_allclose(np.array(table["vector"].to_pylist()), ROWS[rewards], atol=1e-6)
        before = len(appended)
        wait_until(lambda: len(appended) > before, "appends after the export")
    finally:
        stop.set()
        writing.join()


def authorized(scope: str) -> dict[str, str]:
    """Return the header with a token of this scope."""
    return {"authorization": f"Bearer {TOKENS[scope]}"}


def test_both_clients_write_a_file(service: RunningService, tmp_path: Path) -> None:
    """They return its sequence number; a token of scope read is enough, and one is needed."""

    async def export() -> int:
        async with AsyncBufferClient(service.url, token=TOKENS["read"]) as client:
            return await client.export(tmp_path / "content.arrow", "arrow")

    with BufferClient(service.url, token=TOKENS["read"]) as client:
        sequence = client.export(tmp_path / "content.parquet")
        status = client.status()
    assert asyncio.run(export()) >= sequence

    tables = [read(tmp_path / name) for name in ("content.parquet", "content.arrow")]
    assert [len(table) for table in tables] == [CAPACITY, CAPACITY]
    assert tables[0].schema.metadata[b"sequence"] == str(sequence).encode()
    assert sequence <= status.sequence
    assert tables[0]["answer"].to_pylist() == tables[1]["answer"].to_pylist()
    with BufferClient(service.url) as client, pytest.raises((UnauthorizedError, ForbiddenError)):
        client.export(tmp_path / "none.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["content.arrow", "content.parquet"]


def test_without_pyarrow_the_service_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """501, which a client does not repeat; all else works."""
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "pyarrow.py").write_text("raise ModuleNotFoundError('No module named pyarrow', name='pyarrow')\n")
    monkeypatch.setenv("PYTHONPATH", str(absent))
    with running_service(tmp_path / "data") as service, BufferClient(service.url) as client:
        client.append(experiences()[:3])

        with pytest.raises(NotInstalledError, match=r"pip install 'experience-buffer\[export\]'") as raised:
            client.export(tmp_path / "content.parquet")
        assert raised.value.status == 501
        assert client.status().size == 3
    assert not list(tmp_path.glob("*.parquet"))


def xbuf(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "buffer_service.cli", "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment or None)


def test_the_command_exports_a_running_service(service: RunningService, tmp_path: Path) -> None:
    """With a token from the environment; a format or a token that is not taken is wrong use."""
    done = xbuf(
        "--url", service.url, "--format", "arrow", "--out", tmp_path / "a.arrow", **{TOKEN_VARIABLE: "read-token"}
    )
    refused = xbuf("--url", service.url, "--token", "wrong", "--out", tmp_path / "b.parquet")

    assert (done.returncode, done.stderr) == (0, f"{tmp_path}/a.arrow: sequence {sequence_of(tmp_path / 'a.arrow')}\n")
    assert len(read(tmp_path / "a.arrow")) == CAPACITY
    assert (refused.returncode, "401" in refused.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrow"]


def sequence_of(path: Path) -> int:
    """Return the sequence number that a file names."""
    return int(read(path).schema.metadata[b"sequence"])


@pytest.mark.parametrize("backend", ["file", "lmdb"])
def test_the_command_exports_a_folder_and_changes_nothing(tmp_path: Path, backend: str) -> None:
    """Of a buffer that is not open; one that is open is left alone, as is what is no buffer."""
    folder = tmp_path / "data"
    with running_service(folder, persistence__backend=backend) as service, BufferClient(service.url) as client:
        sequence = client.append_stream(experiences()).sequence
        locked = xbuf("--data", folder, "--out", tmp_path / "locked.parquet")
    before = content_of(folder / "store")

    done = xbuf("--data", folder, "--out", tmp_path / "content.parquet")
    nothing = xbuf("--data", tmp_path / "elsewhere", "--out", tmp_path / "none.parquet")

    assert (done.returncode, done.stderr) == (0, f"{tmp_path}/content.parquet: sequence {sequence}\n")
    assert read(tmp_path / "content.parquet")["answer"].to_pylist() == [str(n) for n in range(500)]
    assert content_of(folder / "store") == before
    assert (locked.returncode, nothing.returncode) == (69, 65)
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["content.parquet"]


def content_of(store: Path) -> dict[str, bytes]:
    """Return the files of a store, but for the lock, which says who held it last."""
    return {path.name: path.read_bytes() for path in store.iterdir() if path.name != LOCK_FILE}
