"""The API client against a server on loopback that answers what API servers answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from buffer_operator.errors import ChangedError, NotLeadingError, RefusedError, UnavailableError
from buffer_operator.kube.cluster import ApiCluster
from buffer_operator.kube.kinds import CONFIG_MAP, NETWORK_POLICY, POD, POD_MONITOR, STATEFUL_SET
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


async def test_a_field_that_the_server_does_not_know_is_refused_for_good(server: Server, cluster: ApiCluster) -> None:
    """API servers answer it with status 500; to repeat it does not help, and the condition has to say what is wrong."""
    message = "failed to create typed patch object (ns/demo; Kind=StatefulSet): .spec.x: field not declared in schema"
    server.answer = server.with_status(500, {"message": message})
    with pytest.raises(RefusedError, match="not declared"):
        await cluster.apply(
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "demo", "namespace": "ns"}}
        )


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


async def test_a_list_says_where_to_start_watching(server: Server, cluster: ApiCluster) -> None:
    """An empty one may come as null."""
    server.answer = server.with_status(200, {"items": None, "metadata": {"resourceVersion": "7"}})
    assert await cluster.listing(POD, None, "x") == ([], "7")


async def test_a_watch_yields_until_the_server_ends_it(server: Server, cluster: ApiCluster) -> None:
    """Bookmarks included."""
    server.answer = server.with_lines('{"type":"ADDED","object":{"metadata":{}}}', '{"type":"BOOKMARK","object":{}}')
    events = [event["type"] async for event in cluster.watch(POD, "ns", "x", "7")]
    assert events == ["ADDED", "BOOKMARK"]


@pytest.mark.parametrize("line", ['{"type":"ERROR","object":{"code":410,"message":"too old"}}', "not json"])
async def test_a_watch_that_goes_wrong_raises(server: Server, cluster: ApiCluster, line: str) -> None:
    """Whoever watches lists again then; silence would be worse."""
    server.answer = server.with_lines(line)
    with pytest.raises(UnavailableError):
        async for _ in cluster.watch(POD, "ns", "x", "7"):
            pass


async def test_a_watch_that_says_nothing_is_dead(server: Server) -> None:
    """No bytes, no end: only the time tells."""
    configuration = client.Configuration()
    configuration.host = server.address  # type: ignore[attr-defined]
    cluster = ApiCluster(client.ApiClient(configuration), watch_silence_s=0.05)
    over = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await over.wait()
        return response

    server.answer = silent
    with pytest.raises(UnavailableError):
        async for _ in cluster.watch(POD, "ns", "x", "7"):
            pass
    over.set()
    await cluster.close()


@pytest.mark.parametrize(("header", "after_s"), [("7", 7.0), ("100000", 60.0), ("soon", 0.0)])
async def test_a_server_that_asks_for_patience_gets_it(
    server: Server, cluster: ApiCluster, header: str, after_s: float
) -> None:
    """Within reason, and where it says so in seconds."""

    async def busy(_: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=429, headers={"Retry-After": header})

    server.answer = busy
    with pytest.raises(UnavailableError) as caught:
        await cluster.get(POD, "ns", "demo-0")
    assert caught.value.after_s == after_s


async def test_the_fence_stops_writes_after_the_connection_stands_and_lets_reads_pass(server: Server) -> None:
    """A refused write never arrives, and its connection serves the next request."""
    allowed = [False]

    def fence() -> None:
        if not allowed[0]:
            raise NotLeadingError("no longer")

    configuration = client.Configuration()
    configuration.host = server.address  # type: ignore[attr-defined]
    cluster = ApiCluster(client.ApiClient(configuration), fence)
    await cluster.get(POD, "ns", "demo-0")
    with pytest.raises(NotLeadingError):
        await cluster.patch(POD, "ns", "demo-0", {})
    await cluster.get(POD, "ns", "demo-0")
    allowed[0] = True
    await cluster.patch(POD, "ns", "demo-0", {})
    assert [method for method, *_ in server.requests] == ["GET", "GET", "PATCH"]
    await cluster.close()


async def test_a_server_that_is_gone_is_unavailable() -> None:
    """Not a surprise of another type."""
    configuration = client.Configuration()
    configuration.host = "http://127.0.0.1:9"
    cluster = ApiCluster(client.ApiClient(configuration))
    with pytest.raises(UnavailableError):
        await cluster.get(POD, "ns", "demo-0")
    await cluster.close()


async def test_whether_a_kind_is_known_is_asked_once(server: Server, cluster: ApiCluster) -> None:
    """A group that is not there, one without the kind, and one with it; later visits ask nothing."""
    server.answer = server.with_status(404, {"message": "404 page not found"})
    assert await cluster.knows(POD_MONITOR) is False
    server.answer = server.with_status(200, {"resources": [{"name": "networkpolicies"}]})
    assert await cluster.knows(NETWORK_POLICY) is True
    assert await cluster.knows(POD_MONITOR) is False
    assert [path for _, path, *_ in server.requests] == [
        "/apis/monitoring.coreos.com/v1",
        "/apis/networking.k8s.io/v1",
    ]


async def test_only_the_object_that_was_seen_is_removed(server: Server, cluster: ApiCluster) -> None:
    """The uid goes with the request; one of the same name that was made since then stays."""
    await cluster.remove(NETWORK_POLICY, "ns", "demo", "uid-1")
    ((method, path, _, body),) = server.requests
    assert (method, path) == ("DELETE", "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/demo")
    assert body["preconditions"] == {"uid": "uid-1"}
    server.answer = server.with_status(409, {"message": "the UID in the precondition does not match"})
    with pytest.raises(ChangedError):
        await cluster.remove(NETWORK_POLICY, "ns", "demo", "uid-1")


async def test_an_object_is_deleted_without_what_it_owns(server: Server, cluster: ApiCluster) -> None:
    """And only the one that was seen."""
    await cluster.orphan(STATEFUL_SET, "ns", "demo", "7")
    method, path, _, body = server.requests[0]
    assert (method, path) == ("DELETE", "/apis/apps/v1/namespaces/ns/statefulsets/demo")
    assert (body["preconditions"], body["propagationPolicy"]) == ({"uid": "7"}, "Orphan")


async def test_a_pod_is_evicted_and_not_deleted(server: Server, cluster: ApiCluster) -> None:
    """So that disruption budgets are asked; one that says no asks for patience."""
    await cluster.evict("ns", "demo-0", "7")
    method, path, _, body = server.requests[0]
    assert (method, path) == ("POST", "/api/v1/namespaces/ns/pods/demo-0/eviction")
    assert (body["kind"], body["deleteOptions"]) == ("Eviction", {"preconditions": {"uid": "7"}})
    server.answer = server.with_status(429, {"message": "Cannot evict pod as it would violate the pod's budget."})
    with pytest.raises(UnavailableError, match="budget"):
        await cluster.evict("ns", "demo-0", "7")
