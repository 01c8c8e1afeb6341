"""The API client against a server on loopback that answers what API servers answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from buffer_operator.cluster import ApiCluster
from buffer_operator.errors import ChangedError, RefusedError, UnavailableError
from buffer_operator.kinds import CONFIG_MAP, POD
from kubernetes.aio import client

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers every request as it is told to, and keeps what was asked."""

    def __init__(self) -> None:
        self.answer: Answer = self.with_status(200, {})
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Keep the request and answer it."""
        body = await request.json() if request.can_read_body else None
        headers = {"accept": request.headers["Accept"], "type": request.headers.get("Content-Type", "")}
        self.requests.append((request.method, request.path_qs, headers, body))
        return await self.answer(request)

    @staticmethod
    def with_status(status: int, body: dict[str, Any]) -> Answer:
        """Return an answer of JSON."""

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status)

        return answer

    @staticmethod
    def with_lines(*lines: str) -> Answer:
        """Return an answer that streams lines."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for line in lines:
                await response.write(line.encode() + b"\n")
            return response

        return answer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port."""
    handler = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    handler.address = f"http://127.0.0.1:{runner.addresses[0][1]}"  # type: ignore[attr-defined]
    yield handler
    await runner.cleanup()


@pytest.fixture
async def cluster(server: Server) -> AsyncIterator[ApiCluster]:
    """A client of that server."""
    configuration = client.Configuration()
    configuration.host = server.address  # type: ignore[attr-defined]
    found = ApiCluster(client.ApiClient(configuration))
    yield found
    await found.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, RefusedError),
        (422, RefusedError),
        (404, ChangedError),
        (409, ChangedError),
        (401, UnavailableError),
        (429, UnavailableError),
        (500, UnavailableError),
        (503, UnavailableError),
    ],
)
async def test_errors_are_told_apart_by_what_to_do_next(
    server: Server, cluster: ApiCluster, status: int, error: type[Exception]
) -> None:
    """Refused stays refused, conflicts are looked at anew, the rest passes; the server's words are kept."""
    server.answer = server.with_status(status, {"message": "because of the moon"})
    with pytest.raises(error, match="because of the moon"):
        await cluster.patch(POD, "ns", "demo-0", {})


async def test_absence_is_an_answer(server: Server, cluster: ApiCluster) -> None:
    """GET of nothing is None, and creating what exists is False."""
    server.answer = server.with_status(404, {"message": "not found"})
    assert await cluster.get(CONFIG_MAP, "ns", "demo-index") is None
    server.answer = server.with_status(409, {"reason": "AlreadyExists"})
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"}}
    assert await cluster.create(manifest) is False


async def test_apply_is_server_side_forced_and_ours(server: Server, cluster: ApiCluster) -> None:
    """The content type and the field manager are what makes it an apply."""
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo", "namespace": "ns"}}
    await cluster.apply(manifest)
    ((method, path, headers, body),) = server.requests
    assert (method, body) == ("PATCH", manifest)
    assert path.startswith("/api/v1/namespaces/ns/services/demo?")
    assert "fieldManager=experience-buffer-operator" in path
    assert "force=true" in path
    assert headers["type"] == "application/apply-patch+yaml"


async def test_lists_select_by_label_and_items_get_their_kind(server: Server, cluster: ApiCluster) -> None:
    """Items of a list carry neither kind nor version."""
    server.answer = server.with_status(200, {"items": [{"metadata": {"name": "a"}}]})
    found = await cluster.list(POD, None, "pixelis.dev/buffer=demo")
    assert found == [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}]
    assert server.requests[0][1] == "/api/v1/pods?labelSelector=pixelis.dev/buffer%3Ddemo"


async def test_an_empty_list_of_metadata_comes_as_null(server: Server, cluster: ApiCluster) -> None:
    """Only names and versions are asked for."""
    server.answer = server.with_status(200, {"items": None, "metadata": {"resourceVersion": "7"}})
    listing = await cluster.list_metadata(POD, None, "x")
    assert (listing.items, listing.resource_version) == ([], "7")
    assert "PartialObjectMetadataList" in server.requests[0][2]["accept"]


async def test_a_watch_yields_until_the_server_ends_it(server: Server, cluster: ApiCluster) -> None:
    """Bookmarks included."""
    server.answer = server.with_lines('{"type":"ADDED","object":{"metadata":{}}}', '{"type":"BOOKMARK","object":{}}')
    events = [event["type"] async for event in cluster.watch_metadata(POD, "ns", "x", "7")]
    assert events == ["ADDED", "BOOKMARK"]


@pytest.mark.parametrize("line", ['{"type":"ERROR","object":{"code":410,"message":"too old"}}', "not json"])
async def test_a_watch_that_goes_wrong_raises(server: Server, cluster: ApiCluster, line: str) -> None:
    """Whoever watches lists again then; silence would be worse."""
    server.answer = server.with_lines(line)
    with pytest.raises(UnavailableError):
        async for _ in cluster.watch_metadata(POD, "ns", "x", "7"):
            pass


async def test_a_server_that_is_gone_is_unavailable() -> None:
    """Not a surprise of another type."""
    configuration = client.Configuration()
    configuration.host = "http://127.0.0.1:9"
    cluster = ApiCluster(client.ApiClient(configuration))
    with pytest.raises(UnavailableError):
        await cluster.get(POD, "ns", "demo-0")
    await cluster.close()
