"""Who gets into the queue, and what the probes make of it."""

from __future__ import annotations

import urllib.error
import urllib.request
from asyncio import to_thread

import kopf
import pytest
from buffer_operator.errors import UnavailableError
from buffer_operator.handlers import Changes, build_registry, build_settings
from buffer_operator.kube.cache import Store
from buffer_operator.kube.cluster import Listing
from buffer_operator.kube.kinds import BUFFER, Json, Kind
from buffer_operator.kube.watches import Resync
from buffer_operator.leader import Unchallenged
from buffer_operator.probes import Probes
from buffer_operator.queue import Key

from tests.unit.operator.model_api import ModelApi

KEY = Key("default", "demo")


def _body(**changes: object) -> Json:
    return {"metadata": {"uid": "u", "generation": 1, "name": "demo", "namespace": "default", **changes}}


def test_our_own_status_writes_are_no_news() -> None:
    """Otherwise each visit would cause the next one."""
    changes = Changes()
    assert changes.is_news(KEY, None, _body())
    assert not changes.is_news(KEY, "MODIFIED", _body(resourceVersion="8"))
    assert changes.is_news(KEY, "MODIFIED", _body(generation=2))
    assert changes.is_news(KEY, "MODIFIED", _body(generation=2, deletionTimestamp="now"))
    assert changes.is_news(KEY, "DELETED", _body(generation=2))
    assert changes.is_news(KEY, "ADDED", _body(generation=2))


def test_kopf_has_no_handler_that_writes_to_objects() -> None:
    """Handlers of changes, daemons and timers would add a finalizer or annotations."""
    registry = build_registry(lambda _: None)
    assert len(registry._watching.get_all_handlers()) == 1
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
    assert not registry._indexing.get_all_handlers()


@pytest.mark.parametrize("namespaced", [True, False])
def test_kopf_looks_beyond_its_namespaces_only_where_it_may(namespaced: bool) -> None:  # noqa: FBT001
    """Listing namespaces and CRDs needs rights that a namespaced operator does not have."""
    settings = build_settings(70.0, namespaced=namespaced)
    assert isinstance(settings, kopf.OperatorSettings)
    assert settings.scanning.disabled is namespaced
    assert settings.posting.enabled is False


async def test_a_resync_enqueues_every_buffer_and_notes_its_success() -> None:
    """A failed one notes nothing."""
    world, found = ModelApi(), list[Key]()
    world.make_buffer("a")
    world.make_buffer("b")
    store = Store()
    resync = Resync(world, (None,), store, lambda key, _: found.append(key))
    await resync.once(spread_s=0.0)
    assert sorted(found) == [Key("default", "a"), Key("default", "b")]
    assert resync.last_good_at is not None

    class Gone(ModelApi):
        async def listing(self, kind: Kind, namespace: str | None, selector: str) -> Listing:
            raise UnavailableError(f"{kind.plural} of {namespace} with {selector} cannot be listed")

    resync = Resync(Gone(), (None,), store, lambda key, _: found.append(key))
    with pytest.raises(UnavailableError):
        await resync.once(spread_s=0.0)
    assert resync.last_good_at is None


async def test_a_buffer_that_went_without_a_word_is_visited_by_the_resync() -> None:
    """Its deletion fell into a gap of the watch: the list is what tells."""
    world, found = ModelApi(), list[Key]()
    store = Store()
    resync = Resync(world, (None,), store, lambda key, _: found.append(key))
    world.make_buffer("a")
    await resync.once(spread_s=0.0)
    world.delete(BUFFER, "a")
    await resync.once(spread_s=0.0)
    assert found == [Key("default", "a")] * 2
    assert len(store) == 0


def _status_of(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


class _Led:
    """Leadership as a test wants it."""

    leads_for: float | None = None
    age = 0.0

    def leads_for_s(self) -> float | None:
        return self.leads_for

    def attempt_age_s(self) -> float:
        return self.age


async def test_probes_of_one_that_stands_by_follow_the_lease() -> None:
    """Ready, so that a rollout goes on; alive while it asks for the Lease."""
    world, led = ModelApi(), _Led()
    probes = Probes(Resync(world, (None,), Store(), lambda _key, _after: None), led, 900.0)  # type: ignore[arg-type]
    port = await probes.start("127.0.0.1", 0)
    assert await to_thread(_status_of, port, "/readyz") == 200
    assert await to_thread(_status_of, port, "/livez") == 200
    led.age = 901.0
    assert await to_thread(_status_of, port, "/livez") == 503
    led.leads_for = 1.0
    assert await to_thread(_status_of, port, "/readyz") == 503
    assert await to_thread(_status_of, port, "/livez") == 200
    led.leads_for = 901.0
    assert await to_thread(_status_of, port, "/livez") == 503
    await probes.stop()


async def test_probes_follow_the_resync() -> None:
    """Ready after the first, alive while the last is recent."""
    world, now = ModelApi(), [1000.0]
    resync = Resync(world, (None,), Store(), lambda _key, _after: None)
    probes = Probes(resync, Unchallenged(), 900.0, lambda: now[0])
    port = await probes.start("127.0.0.1", 0)

    def status(path: str) -> int:
        return _status_of(port, path)

    assert await to_thread(status, "/readyz") == 503
    assert await to_thread(status, "/livez") == 200
    await resync.once(spread_s=0.0)
    resync.last_good_at = now[0]
    assert await to_thread(status, "/readyz") == 200
    now[0] += 901
    assert await to_thread(status, "/livez") == 503
    assert await to_thread(status, "/metrics") == 200
    await probes.stop()
