"""kopf: watches the buffers and puts their keys into the queue, nothing else.

It is a second way to hear of them, not the only one: kopf can stop watching without ending, for example where the API
server fails while it looks for its resources. What the operator relies on is its own watch, which tells when it is
dead.

Only ``on.event`` is registered, so kopf writes nothing to the objects: no finalizer, no annotation. kopf runs on an
event loop and a thread of its own: when it stops it cancels every task of its loop, and none of ours is there.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import kopf

from buffer_operator.kube.kinds import Json
from buffer_operator.queue import Key
from buffer_operator.settings import OperatorSettings
from buffer_service.contract import names

log = logging.getLogger(__name__)

Enqueue = Callable[[Key], None]


class Changes:
    """Tells changes of what a user wrote from those of the status, which are our own. Owned by kopf's loop."""

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[Any, ...]] = {}

    def is_news(self, key: Key, event_type: str | None, body: Json) -> bool:
        """Whether anything but the status has changed since the last event of this buffer."""
        if event_type == "DELETED":
            self._seen.pop(key, None)
            return True
        metadata = body["metadata"]
        mark = (
            metadata.get("uid"),
            metadata.get("generation"),
            metadata.get("deletionTimestamp"),
            metadata.get("labels"),
            metadata.get("annotations"),
        )
        news = self._seen.get(key) != mark
        self._seen[key] = mark
        return news


def build_registry(enqueue: Enqueue) -> kopf.OperatorRegistry:
    """Return the registry with the one handler; ``enqueue`` is called on kopf's thread."""
    registry = kopf.OperatorRegistry()
    changes = Changes()

    @kopf.on.event(names.API_GROUP, names.API_VERSION, names.PLURAL, registry=registry)
    async def on_buffer(event: Any, **_: object) -> None:  # noqa: ANN401 - kopf's mapping views
        body = event["object"]
        key = Key(body["metadata"]["namespace"], body["metadata"]["name"])
        if changes.is_news(key, event["type"], body):
            enqueue(key)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401
        return kopf.login_with_kubeconfig(**kwargs) or kopf.login_with_service_account(**kwargs)

    return registry


def build_settings(watch_silence_s: float, *, namespaced: bool) -> kopf.OperatorSettings:
    """Return kopf's settings: bounded times for every request, no Events of its own, no look at other namespaces."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = namespaced
    settings.networking.request_timeout = 20
    settings.networking.connect_timeout = 5
    settings.watching.server_timeout = 120
    settings.watching.client_timeout = 150
    settings.watching.connect_timeout = 5
    settings.watching.inactivity_timeout = watch_silence_s
    return settings


class KopfThread:
    """kopf on its own thread; ``enqueue`` is called on the loop that made it.

    ``ended`` is set when kopf is over, for whatever reason.
    """

    def __init__(self, operator_settings: OperatorSettings, enqueue: Enqueue) -> None:
        self._settings = operator_settings
        self._namespaces = [scope for scope in operator_settings.watched if scope]
        self._enqueue = enqueue
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    async def stop(self) -> None:
        """Stop watching, where that was begun; takes a few seconds."""
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, 15)

    def _hand_over(self, key: Key) -> None:
        self._loop.call_soon_threadsafe(self._enqueue, key)

    def _run(self) -> None:
        try:
            asyncio.run(
                kopf.operator(
                    registry=build_registry(self._hand_over),
                    settings=build_settings(self._settings.watch_silence_s, namespaced=bool(self._namespaces)),
                    standalone=True,
                    clusterwide=not self._namespaces,
                    namespaces=self._namespaces,
                    stop_flag=self._stop,
                )
            )
        except Exception:
            log.exception("kopf ended")
        finally:
            self._loop.call_soon_threadsafe(self.ended.set)
