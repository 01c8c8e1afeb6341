"""What the watches have seen: never older than it was, never wrong about what is gone for longer than a list takes."""

from __future__ import annotations

from buffer_operator.kube import labels
from buffer_operator.kube.cache import KEPT_S, Cache, Store
from buffer_operator.kube.cluster import Listing
from buffer_operator.kube.kinds import BUFFER, JOB, POD, SECRET, Json
from buffer_operator.queue import Key

from tests.unit.operator.driver import Driver
from tests.unit.operator.model_api import NAMESPACE
from tests.unit.operator.model_cluster import ModelCluster

DEMO = Key("ns", "demo")


def _pod(name: str, version: int, buffer: str = "demo", **more: object) -> Json:
    metadata = {"name": name, "namespace": "ns", "labels": {labels.BUFFER: buffer}, "resourceVersion": str(version)}
    return {"kind": "Pod", "metadata": {**metadata, **more}}


def test_a_late_event_does_not_bring_back_what_was() -> None:
    """Of two versions the higher one stays, in whatever order they come."""
    store = Store()
    store.put(_pod("a", 12, new=True))
    store.put(_pod("a", 9))
    assert store.get("ns", "a") == _pod("a", 12, new=True)


def test_a_list_removes_what_is_gone_and_says_whose_it_was() -> None:
    """But not what came after it, and nothing of another namespace."""
    store = Store()
    store.put(_pod("old", 5))
    store.put(_pod("young", 30, buffer="other"))
    store.put({"metadata": {**_pod("far", 5)["metadata"], "namespace": "elsewhere"}})
    assert store.replace(Listing([_pod("new", 8)], "20"), "ns") == {DEMO}
    assert [item["metadata"]["name"] for item in store.of_buffer(DEMO)] == ["new"]
    assert [item["metadata"]["name"] for item in store.of_buffer(Key("ns", "other"))] == ["young"]
    assert store.get("elsewhere", "far") is not None
    assert store.replace(Listing([], "99"), None) == {DEMO, Key("ns", "other"), Key("elsewhere", "demo")}
    assert len(store) == 0


def test_readers_get_copies_without_managed_fields() -> None:
    """They are a third of an object, and a look may change what it gets."""
    store = Store()
    store.put(_pod("a", 1, managedFields=[{"manager": "kubelet"}]))
    first = store.get("ns", "a")
    assert first == _pod("a", 1)
    first["metadata"]["labels"].clear()
    assert store.get("ns", "a") == _pod("a", 1)


def test_an_object_that_changes_its_buffer_leaves_the_one_before() -> None:
    """Labels can be edited."""
    store = Store()
    store.put(_pod("a", 1))
    store.put(_pod("a", 2, buffer="other"))
    assert store.of_buffer(DEMO) == []
    store.drop("ns", "a")
    store.drop("ns", "a")
    assert store.of_buffer(Key("ns", "other")) == []


async def test_what_is_not_watched_is_asked_for_once_in_a_while(world: ModelCluster, operator: Driver) -> None:
    """Secrets can be neither listed nor watched; their absence is remembered as well."""
    now = [0.0]
    cache = Cache(world, (POD, JOB), lambda: now[0])
    await operator.rounds(3)
    assert await cache.get(SECRET, NAMESPACE, "demo-token") is not None
    assert await cache.get(SECRET, NAMESPACE, "absent") is None
    world.delete(SECRET, "demo-token")
    world.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "absent", "namespace": NAMESPACE}})
    assert await cache.get(SECRET, NAMESPACE, "demo-token") is not None
    assert await cache.get(SECRET, NAMESPACE, "absent") is None
    now[0] += KEPT_S
    assert await cache.get(SECRET, NAMESPACE, "demo-token") is None
    assert await cache.get(SECRET, NAMESPACE, "absent") is not None


async def test_a_look_at_the_api_server_renews_what_is_kept(world: ModelCluster) -> None:
    """What a rotated token is found by: the look that follows a refused one."""
    cache = Cache(world, (POD,))
    assert await cache.get(SECRET, NAMESPACE, "demo-token") is None
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-token", "namespace": NAMESPACE}}
    world.put(secret)
    assert await cache.authoritative().get(SECRET, NAMESPACE, "demo-token") is not None
    assert await cache.get(SECRET, NAMESPACE, "demo-token") is not None


async def test_lists_that_are_not_of_one_buffer_go_to_the_api_server(world: ModelCluster, operator: Driver) -> None:
    """The cache knows objects by their buffer alone."""
    cache = Cache(world, (POD,))
    await operator.rounds(3)
    assert await cache.list(POD, NAMESPACE, f"{labels.BUFFER}=demo") == []
    assert await cache.list(POD, NAMESPACE, "") != []
    assert await cache.list(BUFFER, None, "") != []


async def test_a_buffer_that_is_gone_is_forgotten(world: ModelCluster) -> None:
    """With what was kept of it, once that is old."""
    now = [0.0]
    cache = Cache(world, (BUFFER,), lambda: now[0])
    cache.stores[BUFFER].put({**world.buffer(), "kind": BUFFER.name})
    await cache.get(SECRET, NAMESPACE, "demo-token")
    now[0] += KEPT_S
    cache.forget(Key(NAMESPACE, "demo"))
    assert len(cache.stores[BUFFER]) == 0
    assert cache._kept == {}
