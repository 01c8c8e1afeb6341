"""Which generations there have been: the numbers never used again, and the pointers that can be gone back to. Pure.

The status of the buffer remembers them: ``status.index.known`` holds the latest pointers, newest first. The volume's
claim remembers the highest number: a buffer that is made anew over a kept volume finds old generations there.
"""

from __future__ import annotations

from typing import Final

import msgspec

from buffer_operator.kube.kinds import Json
from buffer_operator.observing.observed import Observed
from buffer_operator.resource.conditions import parse_timestamp
from buffer_operator.resource.spec import Spec
from buffer_service.contract.pointer import INITIAL, Pointer, successor

_KNOWN_MAX: Final = 10


def known_generations(observed: Observed) -> list[Json]:
    """Return generation, watermark and digest of the latest pointers, the current one first."""
    before: list[Json] = observed.buffer.status.get("index", {}).get("known", [])
    pointer = observed.pointer
    if pointer is None or pointer.generation == 0:
        return before
    current = {
        "generation": pointer.generation,
        "watermark": pointer.watermark,
        "manifestSHA256": pointer.manifest_sha256,
    }
    others = [entry for entry in before if entry["generation"] != pointer.generation]
    return [current, *others][:_KNOWN_MAX]


def highest_generation(observed: Observed) -> int:
    """Return the highest generation that was ever pointed to or that a Job was started for."""
    status = observed.buffer.status
    highest: int = max(
        observed.pointer.generation if observed.pointer else 0,
        observed.last_generation,
        status.get("rebuild", {}).get("lastGeneration", 0),
        *(entry["generation"] for entry in known_generations(observed)),
        *(job.generation for job in observed.jobs),
        *(pod.service.generation for pod in observed.pods if pod.service),
        0,
    )
    return highest


def pointer_back_to(observed: Observed, generation: int, now: float) -> Pointer | None:
    """Return the pointer that goes back to a generation, None where its digest is not known."""
    current = observed.pointer
    if current is None:
        return None
    if generation == 0:
        return successor(current, generation=0, watermark=0, manifest_sha256="", reason="rollback", now=now)
    for entry in known_generations(observed):
        if entry["generation"] == generation:
            return successor(
                current,
                generation=generation,
                watermark=entry["watermark"],
                manifest_sha256=entry["manifestSHA256"],
                reason="rollback",
                now=now,
            )
    return None


def rollback_targets(observed: Observed, spec: Spec) -> list[int]:
    """Return the generations that can be gone back to, newest first: earlier than the current one, and still kept.

    A rebuild Job keeps the newest ``keepGenerations``, what was pointed to before its own, and its own.
    """
    known = [entry["generation"] for entry in known_generations(observed)]
    return kept_before(known, observed.pointer.generation if observed.pointer else 0, spec.rebuild.keep_generations)


def kept_before(known: list[int], current: int, keep: int) -> list[int]:
    """Return those of the known generations, latest pointed to first, that are kept and earlier; newest first."""
    kept = {*sorted(known)[-keep:], *known[:2]}
    return sorted((number for number in kept if number < current), reverse=True)


def went_backwards(observed: Observed) -> bool:
    """Whether somebody has set the pointer to a revision that is lower than one that is recorded or served."""
    if observed.pointer is None:
        return False
    recorded: int = observed.buffer.status.get("index", {}).get("revision", 0)
    return observed.pointer.revision < max(recorded, _served_revision(observed))


def _served_revision(observed: Observed) -> int:
    return max((pod.service.pointer_revision for pod in observed.serving if pod.service), default=0)


def pointer_to_recreate(observed: Observed) -> Pointer:
    """Return the pointer for a buffer that has lost it: the first one, or the latest that is remembered.

    Its revision is at least that of the pods: they follow only forwards.
    """
    index = observed.buffer.status.get("index", {})
    known: list[Json] = index.get("known", [])
    served = _served_revision(observed)
    revision = index.get("revision", 0)
    latest = next((entry for entry in known if entry["generation"] == index.get("generation")), None)
    if latest is None:
        return msgspec.structs.replace(INITIAL, revision=served + 1 if served else revision)
    return Pointer(
        revision=revision if revision >= served else served + 1,
        generation=latest["generation"],
        watermark=latest["watermark"],
        manifest_sha256=latest["manifestSHA256"],
        reason="rollback",
        flipped_at=parse_timestamp(index["flippedAt"]) if "flippedAt" in index else 0.0,
    )
