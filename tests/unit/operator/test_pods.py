"""Talking to pods: what they are asked with, and what can come back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web
from buffer_operator.errors import UnavailableError
from buffer_operator.kube.kinds import SECRET
from buffer_operator.observing.pods import HttpPods

from buffer_service.contract import names
from tests.unit.operator.driver import Driver
from tests.unit.operator.model_cluster import ADDRESS, ModelCluster


class Pod:
    """A process that answers what it is told to, to those with the right token."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        if request.headers.get("Authorization") != "Bearer secret":
            return web.Response(status=401, text="Token needed")
        return web.Response(status=self.status, body=self.body)


@pytest.fixture
async def pod(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pod]:
    """A pod on loopback."""
    process = Pod()
    application = web.Application()
    application.router.add_get("/v1/status", process.handle)
    application.router.add_post("/v1/admin/export", process.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setattr(names, "HTTP_PORT", runner.addresses[0][1])
    yield process
    await runner.cleanup()


@pytest.fixture
async def pods() -> AsyncIterator[HttpPods]:
    """The operator's side."""
    found = HttpPods()
    yield found
    await found.close()


async def test_a_status_is_read_as_the_contract_has_it(pod: Pod, pods: HttpPods, world: ModelCluster) -> None:
    """The same structure that the service writes."""
    await Driver(world).rounds(3)
    token = msgspec.convert(world.objects[SECRET, "demo-token"]["data"]["admin"], bytes).decode()
    told = await world.status(ADDRESS, token)
    pod.body = msgspec.json.encode(told)
    assert await pods.status("127.0.0.1", "secret") == told


async def test_an_export_answers_with_watermark_and_rows(pod: Pod, pods: HttpPods) -> None:
    """As the service does."""
    pod.body = b'{"watermark": 7, "rows": 5}'
    exported = await pods.export("127.0.0.1", "secret")
    assert (exported.watermark, exported.rows) == (7, 5)


@pytest.mark.parametrize(("status", "body"), [(507, b"the disk is full"), (200, b"not json"), (200, b'{"rows": 1}')])
async def test_any_other_answer_is_unavailable(pod: Pod, pods: HttpPods, status: int, body: bytes) -> None:
    """It passes or it does not: the operator asks again."""
    pod.status, pod.body = status, body
    with pytest.raises(UnavailableError):
        await pods.export("127.0.0.1", "secret")


async def test_a_wrong_token_and_a_closed_port_are_unavailable(pod: Pod, pods: HttpPods) -> None:
    """And the message never has the token."""
    with pytest.raises(UnavailableError, match="401") as caught:
        await pods.status("127.0.0.1", "guessed")
    assert "guessed" not in str(caught.value)
    with pytest.raises(UnavailableError):
        await pods.status("127.0.0.9", "secret")
    assert pod.status == 200
