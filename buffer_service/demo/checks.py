"""What has to be true at the end of a run. Each check asks the service again, over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from buffer_client import BufferClient
from buffer_service.demo.progress import Progress

LEARNT_LAST = 300
LEARNT_FLOOR = 0.93
UNLEARNT_FIRST = 50
UNLEARNT_GAP = 0.15
_FOUND_SAMPLE = 50
_PAGE_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Check:
    """One statement, whether it holds, and the figures behind it."""

    statement: str
    holds: bool
    figures: str


def run_checks(client: BufferClient, progress: Progress, switches_wanted: int) -> Sequence[Check]:
    """Return all checks of the run."""
    return [
        _learnt(progress),
        _switched(progress, switches_wanted),
        _no_failures(progress),
        _all_there(client, progress),
        _found_by_own_vector(client, progress),
        _index_serves(client),
    ]


def _learnt(progress: Progress) -> Check:
    first = sum(progress.correct[:UNLEARNT_FIRST]) / UNLEARNT_FIRST
    last = progress.accuracy(LEARNT_LAST)
    return Check(
        "it learnt from experience",
        last >= LEARNT_FLOOR and first <= last - UNLEARNT_GAP,
        f"accuracy {first:.0%} of the first {UNLEARNT_FIRST}, {last:.1%} of the last {LEARNT_LAST}",
    )


def _switched(progress: Progress, wanted: int) -> Check:
    path = " → ".join(f"{switch.generation} (at step {switch.step})" for switch in progress.switches)
    return Check(
        "the index was swapped under it",
        len(progress.switches) >= wanted,
        f"{len(progress.switches)} switches, {wanted} wanted; generation {path or progress.generation}",
    )


def _no_failures(progress: Progress) -> Check:
    figures = f"{len(progress.failures)} failed of {len(progress.search_s)} searches and what came with them"
    if progress.failures:
        figures += f"; the first: {progress.failures[0]}"
    return Check("no request failed", not progress.failures, figures)


def _all_there(client: BufferClient, progress: Progress) -> Check:
    """Walk the buffer from the first id of this run on."""
    acknowledged = set(progress.acknowledged)
    expected = _not_evicted(client, progress)
    walk = client.experiences(min(acknowledged, default=0), limit=_PAGE_LIMIT)
    mine = {item.id for item in walk if (item.metadata or {}).get("run") == progress.run_id}
    size = client.status().size
    evicted = len(acknowledged) - len(expected)
    return Check(
        "every acknowledged experience is there",
        mine == expected and size >= len(expected) > 0,
        f"{len(acknowledged)} acknowledged, {len(mine)} walked, {size} counted"
        + (f"; {evicted} evicted by the capacity" if evicted else ""),
    )


def _found_by_own_vector(client: BufferClient, progress: Progress) -> Check:
    alive = sorted(_not_evicted(client, progress))
    chosen = np.random.default_rng(0).choice(alive, size=min(_FOUND_SAMPLE, len(alive)), replace=False)
    vectors = np.array([client.get(int(experience)).vector for experience in chosen], dtype=np.float32)
    nearest = client.search(vectors, k=1).ids[:, 0]
    found = int(np.count_nonzero(nearest == chosen))
    return Check("each is found by its own vector", found == len(chosen) > 0, f"{found} of {len(chosen)} at random")


def _not_evicted(client: BufferClient, progress: Progress) -> set[int]:
    """Return the acknowledged ids from the oldest live one on: a bounded buffer drops the oldest first."""
    oldest = min((item.id for item in client.page(limit=1).experiences), default=0)
    return {experience for experience in progress.acknowledged if experience >= oldest}


def _index_serves(client: BufferClient) -> Check:
    status = client.status()
    figures = f"generation {status.generation}, {status.index_rows} rows indexed, {status.delta_rows} in the delta"
    return Check("a built index answers", status.generation > 0 and status.index_rows > 0, figures)
