"""What ``kubectl xbuf status`` shows, from the resource alone. Pure; ``now`` is Unix time in seconds."""

from __future__ import annotations

from typing import Final

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import Json
from buffer_operator.planning.generations import kept_before
from buffer_operator.plugin.layout import age, clock, facts, number, table

_GIBIBYTE: Final = 1 << 30
_MEBIBYTE: Final = 1 << 20


def summary(resource: Json) -> Json:
    """Return the same for programs."""
    metadata, spec = resource["metadata"], resource["spec"]
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "suspended": suspended(spec),
        "paused": metadata.get("annotations", {}).get(labels.PAUSED),
        "rollbackTargets": rollback_targets(resource),
        "status": resource.get("status", {}),
    }


def report(resource: Json, now: float) -> str:
    """Return the text for people."""
    status: Json = resource.get("status", {})
    parts = [
        facts([*_buffer(resource, now), *_index(resource), *_rebuild(status), *_rollback(status)]),
        _conditions(status, now),
        _volumes(status),
        _restarts(status),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def suspended(spec: Json) -> bool:
    """Whether there is to be no pod."""
    return bool(spec.get("suspend")) or spec.get("replicas", 1) == 0


def rollback_targets(resource: Json) -> list[int]:
    """Return the generations that can be gone back to, newest first."""
    index = resource.get("status", {}).get("index", {})
    known = [entry["generation"] for entry in index.get("known", [])]
    keep = resource["spec"].get("rebuild", {}).get("keepGenerations", 3)
    return kept_before(known, index.get("generation", 0), keep)


def _buffer(resource: Json, now: float) -> list[tuple[str, str]]:
    metadata, status, spec = resource["metadata"], resource.get("status", {}), resource["spec"]
    paused = metadata.get("annotations", {}).get(labels.PAUSED)
    pods = f", {status['ready']} pods ready" if "ready" in status else ""
    phase = status.get("phase", "not seen by an operator yet")
    outdated = status.get("observedGeneration") != metadata.get("generation")
    backend = status.get("backend", {})
    return [
        ("Buffer", f"{metadata['namespace']}/{metadata['name']}: {phase}{pods}, made {age(_made(metadata), now)} ago"),
        ("", "The latest change of the spec has not been looked at yet." if status and outdated else ""),
        ("", "Suspended: kubectl xbuf resume brings its pod back." if suspended(spec) else ""),
        ("", f"Paused{f' ({paused})' if paused else ''}: nothing is applied." if paused is not None else ""),
        ("Endpoint", status.get("endpoint", "")),
        ("Image", status.get("image", "")),
        (
            "Records",
            f"{number(status.get('records'))} of {number(status.get('capacity'))}" if "records" in status else "",
        ),
        ("Search", f"on the {backend['active']} ({backend['reason']})" if backend else ""),
    ]


def _made(metadata: Json) -> str:
    made: str = metadata["creationTimestamp"]
    return made


def _index(resource: Json) -> list[tuple[str, str]]:
    status = resource.get("status", {})
    index = status.get("index", {})
    if not index:
        return []
    pending = f"{number(status.get('pendingOperations'))} operations are not in it"
    if not index.get("generation"):
        return [("Index", f"none yet, every experience is searched; {pending}; revision {index.get('revision', 0)}")]
    count = f", {number(index['count'])} rows" if "count" in index else ""
    recall = f", recall@10 {index['recall']}" if "recall" in index else ""
    place = f"up to sequence {number(index.get('watermark'))}{count}{recall}; {pending}"
    targets = ", ".join(str(target) for target in rollback_targets(resource)) or "none"
    before = index.get("previous", {}).get("generation", 0)
    return [
        ("Index", f"generation {index['generation']} at revision {index.get('revision')}, {place}"),
        ("Index", _served(index)),
        ("Before", f"generation {before}; can be gone back to: {targets}" if before else ""),
    ]


def _served(index: Json) -> str:
    if "flippedAt" not in index:
        return ""
    if "flipToServingSeconds" not in index:
        return f"pointed to since {clock(index['flippedAt'])}, not served everywhere yet"
    return f"pointed to since {clock(index['flippedAt'])}, served after {index['flipToServingSeconds']} s"


def _rebuild(status: Json) -> list[tuple[str, str]]:
    rebuild, coming = status.get("rebuild", {}), status.get("nextRebuild", {})
    latest = f"{rebuild['trigger'] or 'unknown'} ({rebuild['message']})" if "trigger" in rebuild else ""
    started = f"at {clock(rebuild['startedAt'])}: {latest}" if latest else ""
    failed = rebuild.get("failedAttempts", 0)
    return [
        ("Rebuild", f"Job {rebuild['job']} runs, started {started}" if "job" in rebuild else ""),
        ("Rebuild", f"the latest was started {started}" if latest and "job" not in rebuild else ""),
        ("Rebuild", f"{failed} in a row came to nothing" if failed else ""),
        ("Rebuild", f"waits for its turn since {clock(rebuild['waitingSince'])}" if "waitingSince" in rebuild else ""),
        (
            "Rebuild",
            "none starts by itself: rolled back by hand, kubectl xbuf rebuild leads forward"
            if rebuild.get("held")
            else "",
        ),
        ("Next", f"at {clock(coming['at'])} or later ({coming['reason']})" if coming else ""),
    ]


def _rollback(status: Json) -> list[tuple[str, str]]:
    rollback = status.get("rollback", {})
    if not rollback:
        return []
    return [
        (
            "Rollback",
            f"{rollback['request']} {rollback['result'].lower()} at {clock(rollback['at'])}: {rollback['message']}",
        )
    ]


def _conditions(status: Json, now: float) -> list[str]:
    rows = [
        [one["type"], one["status"], one["reason"], age(one["lastTransitionTime"], now), one["message"]]
        for one in status.get("conditions", [])
    ]
    return table(["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"], rows)


def _volumes(status: Json) -> list[str]:
    rows = [
        [one["name"], one.get("phase", "?"), one.get("requested", "?"), one.get("actual") or "?", _used(one)]
        for one in status.get("volumes", [])
    ]
    return table(["VOLUME", "PHASE", "REQUESTED", "ACTUAL", "USED"], rows)


def _used(volume: Json) -> str:
    used = volume.get("usedBytes")
    if not isinstance(used, int):
        return "?"
    return f"{used / _GIBIBYTE:.1f} GiB" if used >= _GIBIBYTE else f"{used / _MEBIBYTE:.0f} MiB"


def _restarts(status: Json) -> list[str]:
    rows = [[one["pod"], one["reason"], one.get("message", "")] for one in status.get("pendingRestarts", [])]
    return table(["RESTART", "REASON", "MESSAGE"], rows) or ["No pod is about to be restarted."]
