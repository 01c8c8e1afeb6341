"""Latencies over time: searches cut into bins, with the moments at which something began or ended. Pure functions."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from benchmarks.peers.contestant import Samples

_BIN_S_MIN = 0.5
_BINS_MAX = 240


class Bin(msgspec.Struct, frozen=True):
    """A short time of searches."""

    at_s: float
    """Its middle."""
    rate: float
    p50_ms: float
    p99_ms: float


class Phase(msgspec.Struct, frozen=True):
    """What was measured between two moments."""

    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class Timeline(msgspec.Struct, frozen=True):
    """One contestant's run. ``marks`` are seconds from its start: beside, alone, and ours also has rebuilds."""

    label: str
    bins: list[Bin]
    marks: dict[str, float]
    phases: dict[str, Phase]
    inserted: Phase
    """Inserts: how many per second were acknowledged, and their latencies."""


def phase(samples: Samples, spans: list[tuple[float, float]]) -> Phase:
    """Sum up what was answered within these spans of time."""
    within = np.zeros(len(samples), bool)
    for begins, ends in spans:
        within |= (samples[:, 0] >= begins) & (samples[:, 0] < ends)
    latencies_ms = 1000 * samples[within, 1]
    if not len(latencies_ms):
        return Phase(0.0, float("inf"), float("inf"), float("inf"))
    p50_ms, p99_ms = np.percentile(latencies_ms, [50, 99])
    seconds = sum(ends - begins for begins, ends in spans)
    return Phase(len(latencies_ms) / seconds, float(p50_ms), float(p99_ms), float(latencies_ms.max()))


def timeline(label: str, began: float, searched: Samples, inserted: Samples, marks: dict[str, float]) -> Timeline:
    """Return a run. Samples are in the machine's monotonic time, marks in seconds from ``began``."""
    relative = searched - np.array([began, 0.0])
    beside, alone = marks["beside"], marks["alone"]
    first, last = float(relative[0, 0]), float(relative[-1, 0])
    phases = {
        "idle": phase(relative, [(first, beside), (alone + 1.0, last)]),
        "beside": phase(relative, [(beside, alone)]),
    }
    writes = phase(inserted - np.array([began, 0.0]), [(beside, alone)])
    return Timeline(label, bins(relative), marks, phases, writes)


def bins(relative: Samples) -> list[Bin]:
    """Cut samples into bins of half a second, of more in a long run; one without any answer has an infinite latency."""
    cut = []
    width_s = _BIN_S_MIN * math.ceil(float(relative[-1, 0]) / _BINS_MAX / _BIN_S_MIN)
    for number in range(int(relative[0, 0] / width_s) + 1, int(relative[-1, 0] / width_s)):
        found = phase(relative, [(number * width_s, (number + 1) * width_s)])
        cut.append(Bin((number + 0.5) * width_s, found.rate, found.p50_ms, found.p99_ms))
    return cut
