"""Drives the operator against the model: visits, time that passes, restarts after a crash."""

from __future__ import annotations

from buffer_operator.errors import OperatorError
from buffer_operator.kube.cache import Cache
from buffer_operator.kube.watches import WATCHED
from buffer_operator.queue import Key
from buffer_operator.reconcile import Reconciler
from buffer_operator.settings import OperatorSettings

from tests.unit.operator.model_api import NAMESPACE, CrashError
from tests.unit.operator.model_cluster import ModelCluster

IMAGE = "experience-buffer:1"


class Driver:
    """One operator; a crash leaves nothing of it but what it has written."""

    def __init__(self, world: ModelCluster, image: str = IMAGE, *, watches: bool = False) -> None:
        self.world = world
        self._watches = watches
        self.restart(image)

    def restart(self, image: str = IMAGE) -> None:
        """Start the operator anew, perhaps a newer one."""
        settings = OperatorSettings(image=image)
        self.cache = Cache(self.world, WATCHED, lambda: self.world.now) if self._watches else None
        self._reconciler = Reconciler(self.world, self.world, settings, lambda: self.world.now, self.cache)

    async def catch_up(self) -> None:
        """Have the watches see everything as it is now."""
        if self.cache is not None:
            for kind, store in self.cache.stores.items():
                store.replace(await self.world.listing(kind, None, ""), None)

    async def visit(self, name: str = "demo") -> float | None:
        """Visit the buffer once."""
        return await self._reconciler.visit(Key(NAMESPACE, name))

    async def rounds(self, count: int, seconds: float = 3.0) -> None:
        """Visit and let time pass, in turn; a visit that fails is repeated in the next round."""
        for _ in range(count):
            try:
                await self.visit()
            except CrashError:
                self.restart()
            except OperatorError:
                pass
            self.world.step(seconds)
