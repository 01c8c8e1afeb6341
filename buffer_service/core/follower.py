"""The follower: watches the pointer and switches to the generation that it names.

Any failure keeps what is served and is kept as a refusal, until the pointer moves again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from buffer_service.contract.generation import Manifest
from buffer_service.contract.pointer import INITIAL, InvalidPointerError, Pointer
from buffer_service.contract.status import Refusal, Switch
from buffer_service.core.plan import Plan
from buffer_service.core.serving import Coming, Serving
from buffer_service.core.writer import Writer
from buffer_service.errors import ExperienceBufferError, RetryLaterError
from buffer_service.index.engine import Engine
from buffer_service.index.errors import RefusedGenerationError
from buffer_service.index.generations import load, read_manifest
from buffer_service.index.main import MainIndex
from buffer_service.index.pointer_store import PointerStore
from buffer_service.observability.process import give_back_memory, memory_limit_bytes, rss_bytes
from buffer_service.rests import Rests
from buffer_service.settings import Settings
from buffer_service.storage.operations import SwitchIndex
from buffer_service.storage.rows import Header

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.1
_RETRY_INTERVAL_S = 5.0
_REST = 2
"""Times as long as it worked that the thread rests while it prepares a generation: nobody waits for that."""


class Loader:
    """Loads generations for this buffer."""

    def __init__(self, settings: Settings, engine: Engine, indexes: Path) -> None:
        self._settings = settings
        self._engine = engine
        self._indexes = indexes

    def load(self, pointer: Pointer, sequence: int | None, between: Callable[[], object] = lambda: None) -> MainIndex:
        """Check the memory budget and load; raises RefusedGenerationError.

        With no ``sequence`` to compare with, whoever serves the index must see to it that it is not of the future.
        ``between`` is called after each piece of the work.
        """
        manifest, _ = read_manifest(self._indexes, pointer.generation)
        if sequence is not None:
            _require_past(manifest, sequence)
        limit = self._settings.index.memory_bytes_max or memory_limit_bytes()
        needed = rss_bytes() + manifest.size_bytes
        if limit is not None and needed > limit:
            raise RefusedGenerationError(
                f"generation {pointer.generation} needs {manifest.size_bytes} bytes, with what is in use {needed}: "
                f"more than the limit of {limit} bytes"
            )
        embedding = self._settings.embedding
        return load(self._engine, self._indexes, pointer, embedding.dimension, embedding.metric, between)

    def load_at_start(
        self, pointer: Pointer, loading: Future[MainIndex], header: Header
    ) -> tuple[Pointer, MainIndex | None, str]:
        """Return what to serve first, and why that is not what the pointer names, if so.

        ``loading`` is what was begun without a sequence number while the store was being opened. The second choice is
        the generation that was served last, the third none: then everything is in the delta.
        """
        if pointer.generation == 0:
            return pointer, None, ""
        try:
            main = loading.result()
            _require_past(main.manifest, header.sequence)
        except RefusedGenerationError as error:
            reason = str(error)
        else:
            return pointer, main, ""
        log.error("the generation that the pointer names is refused: %s", reason)
        if header.generation not in (0, pointer.generation):
            try:
                manifest, digest = read_manifest(self._indexes, header.generation)
                last = Pointer(
                    revision=header.revision,
                    generation=header.generation,
                    watermark=manifest.watermark,
                    manifest_sha256=digest,
                    reason="fallback",
                    flipped_at=0.0,
                )
                return last, self.load(last, header.sequence), reason
            except RefusedGenerationError as error:
                log.error("so is the one that was served last: %s", error)  # noqa: TRY400 - the message says it all
        return INITIAL, None, reason


def _require_past(manifest: Manifest, sequence: int) -> None:
    if manifest.watermark > sequence:
        raise RefusedGenerationError(
            f"generation {manifest.generation} holds content up to sequence {manifest.watermark}, this store is at "
            f"{sequence}: they do not belong together"
        )


class Follower:
    """One thread that follows the pointer."""

    def __init__(
        self,
        pointers: PointerStore,
        loader: Loader,
        serving: Serving,
        writer: Writer,
        clock: Callable[[], float],
    ) -> None:
        self._pointers = pointers
        self._loader = loader
        self._serving = serving
        self._writer = writer
        self._clock = clock
        self.refused: Refusal | None = None
        self.switch: Switch | None = None
        self.switches = 0
        self._next_promotion = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop; a switch that is under way is finished first."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def refuse(self, pointer: Pointer, reason: str) -> None:
        """Remember why a pointer is not followed."""
        log.error("revision %d of the pointer is not followed: %s", pointer.revision, reason)
        self.refused = Refusal(
            revision=pointer.revision, generation=pointer.generation, reason=reason, at=self._clock()
        )

    def _run(self) -> None:
        unreadable = ""
        tidied = self.switches
        while not self._stop.wait(POLL_INTERVAL_S):
            if tidied != self.switches:  # nobody reads what was served before any more
                tidied = self.switches
                give_back_memory()
            try:
                self._serving.file_delta(self._writer.between_groups)
                self._promote()
                self.follow()
                unreadable = ""
            except (OSError, InvalidPointerError) as error:
                if str(error) != unreadable:
                    unreadable = str(error)
                    log.warning("the pointer cannot be read, what is served stays: %s", error)
            except Exception:
                log.exception("following the pointer failed, what is served stays")

    def _promote(self) -> None:
        """Try again to copy the index in service to the GPU, when the one before it may have made room."""
        main = self._serving.view.main
        if main is not None and time.monotonic() >= self._next_promotion:
            self._next_promotion = time.monotonic() + _RETRY_INTERVAL_S
            main.promote()

    def follow(self) -> None:
        """Switch if the pointer has moved. On the follower thread, or while that does not run."""
        pointer = self._pointers.read()
        handled = self.refused.revision if self.refused else -1
        if pointer.revision in (self._serving.view.pointer.revision, handled):
            return
        if pointer.generation == 0:
            self.refuse(pointer, "it names no generation, and one is served already")
            return
        started = time.monotonic()
        try:
            coming = self._prepare(pointer)
            self._writer.submit(lambda plan: self._plan_switch(plan, coming)).result()
        except RetryLaterError as error:
            log.warning("the switch to generation %d has to wait: %s", pointer.generation, error)
            self._writer.between_groups(self._serving.abandon_switch).result()
            self._stop.wait(_RETRY_INTERVAL_S)
            return
        except Exception as error:
            if not isinstance(error, RefusedGenerationError | ExperienceBufferError | OSError):
                log.exception("generation %d cannot be taken into service", pointer.generation)
            self._writer.between_groups(self._serving.abandon_switch).result()
            self.refuse(pointer, str(error) or type(error).__name__)
            return
        self._finish(pointer, time.monotonic() - started)

    def _prepare(self, pointer: Pointer) -> Coming:
        rest = Rests(_REST, self._stop.wait)
        main = self._loader.load(pointer, self._serving.view.sequence, rest)
        live = self._writer.between_groups(self._serving.begin_switch).result()
        rest.begin()
        return self._serving.prepare(pointer, main, live, rest)

    def _plan_switch(self, plan: Plan, coming: Coming) -> None:
        pointer = coming.pointer
        plan.group.apply(SwitchIndex(plan.next_sequence, pointer.generation, pointer.revision, pointer.watermark))
        plan.coming = coming

    def _finish(self, pointer: Pointer, load_s: float) -> None:
        now = self._clock()
        self.switches += 1
        self.refused = None
        self.switch = Switch(
            generation=pointer.generation,
            revision=pointer.revision,
            at=now,
            since_flip_s=max(0.0, now - pointer.flipped_at),
            load_s=load_s,
        )
        log.info("generation %d is served, %.3f s after the flip", pointer.generation, self.switch.since_flip_s)
