"""The file that ``export`` writes: whole or not at all, whatever becomes of the first attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from buffer_client import AsyncBufferClient, BufferClient
from buffer_client.errors import ProtocolError, UnreachableError
from tests.unit.client.serving import URL

CONTENT = [b"one ", b"after ", b"another"]


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The content, or so many parts of it before the connection breaks."""

    def __init__(self, parts: int | None) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        """Yield the parts."""
        yield from CONTENT[: self._parts]
        if self._parts is not None:
            raise httpx.ReadError("cut off")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts."""
        for part in self:
            yield part


class Service:
    """Breaks the connection of the first attempts after one part less each time."""

    def __init__(self, failures: int, headers: dict[str, str] | None = None) -> None:
        self.failures = failures
        self._headers = {"x-sequence": "17"} if headers is None else headers
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one attempt."""
        self.asked.append(str(request.url))
        self.failures -= 1
        return httpx.Response(200, headers=self._headers, stream=Body(None if self.failures < 0 else self.failures + 1))


def export(service: Service, path: Path, kind: str) -> int:
    """Export with the blocking or the async client."""
    if kind == "blocking":
        with BufferClient(URL, transport=httpx.MockTransport(service)) as client:
            return client.export(path)

    async def run() -> int:
        async with AsyncBufferClient(URL, transport=httpx.MockTransport(service)) as client:
            return await client.export(path)

    return asyncio.run(run())


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_an_attempt_that_was_cut_off_leaves_nothing_in_the_file(tmp_path: Path, kind: str) -> None:
    """Each attempt begins the file again."""
    service = Service(failures=2)

    assert export(service, tmp_path / "content.parquet", kind) == 17

    assert (tmp_path / "content.parquet").read_bytes() == b"".join(CONTENT)
    assert service.asked == [f"{URL}/v1/export?format=parquet"] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["content.parquet"]


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_a_file_of_before_stays_where_the_export_fails(tmp_path: Path, kind: str) -> None:
    """Nothing is left beside it."""
    (tmp_path / "content.parquet").write_bytes(b"before")

    with pytest.raises(UnreachableError, match="cut off"):
        export(Service(failures=100), tmp_path / "content.parquet", kind)
    with pytest.raises(ProtocolError, match="x-sequence"):
        export(Service(failures=0, headers={}), tmp_path / "content.parquet", kind)

    assert (tmp_path / "content.parquet").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["content.parquet"]
