"""The picture of a mixed run as SVG: p99 of searches over time, ours beside the peers'. No dependency; pure functions.

Run on kept timelines: python -m benchmarks.mixed_plot TIMELINES.json PICTURE.svg.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from html import escape
from pathlib import Path

import msgspec

from benchmarks.mixed_timeline import Timeline

_WIDTH, _HEIGHT = 960, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 24, 64, 96
_INK, _GRID, _PAPER = "#24292f", "#d8dee4", "#ffffff"
_COLOURS = {
    "ours": "#0969da",
    "pgvector": "#bc4c00",
    "chroma": "#1a7f37",
    "milvus": "#8250df",
    "qdrant-edge": "#bf3989",
}
_FALLBACK = "#57606a"
_TICKS_S = 20
_LEAST_MS, _MOST_MS = 1.0, 10_000.0
_LETTER_PX = 6.4


class _Axes:
    """Where moments and latencies lie; latencies are on a logarithmic scale."""

    def __init__(self, timelines: dict[str, Timeline]) -> None:
        every = [bin_ for line in timelines.values() for bin_ in line.bins]
        latencies = [bin_.p99_ms for bin_ in every if math.isfinite(bin_.p99_ms)]
        self.last_s = max(bin_.at_s for bin_ in every)
        self.least = max(_LEAST_MS, 10 ** math.floor(math.log10(min(latencies))))
        self.most = min(_MOST_MS, 10 ** math.ceil(math.log10(max(latencies))))

    def x(self, at_s: float) -> float:
        """Return the place of a moment."""
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * at_s / self.last_s

    def y(self, latency_ms: float) -> float:
        """Return the place of a latency."""
        clipped = min(max(latency_ms, self.least), self.most)
        share = math.log10(clipped / self.least) / math.log10(self.most / self.least)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share


def picture(timelines: dict[str, Timeline]) -> str:
    """Return the picture."""
    axes = _Axes(timelines)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-size="12" '
            f'font-family="system-ui, sans-serif" fill="{_INK}">'
        ),
        "<title>99th percentile of searches over time, beside appends, rebuilds and switches</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="{_PAPER}"/>',
        _text(
            _LEFT,
            24,
            "Searches beside single appends, rebuilds and switches: 99th percentile over time",
            size=15,
            weight=600,
        ),
        *_grid(axes),
        *_marks(axes, timelines["ours"]),
        *(_curve(axes, name, line) for name, line in reversed(timelines.items())),
        *_legend(timelines),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _grid(axes: _Axes) -> Iterator[str]:
    low, high = axes.y(axes.least), axes.y(axes.most)
    for power in range(round(math.log10(axes.least)), round(math.log10(axes.most)) + 1):
        y = axes.y(10**power)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>'
        yield _text(_LEFT - 8, y + 4, f"{10**power:,}", anchor="end")
    for at_s in range(0, int(axes.last_s) + 1, _TICKS_S):
        x = axes.x(at_s)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{low + 4:.1f}" stroke="{_INK}"/>'
        yield _text(x, low + 18, str(at_s), anchor="middle")
    yield _text((_LEFT + _WIDTH - _RIGHT) / 2, low + 36, "time, s", anchor="middle")
    middle = (low + high) / 2
    label = _text(0, 0, "p99 of searches, ms (logarithmic)", anchor="middle")
    yield f'<g transform="translate(18 {middle:.1f}) rotate(-90)">{label}</g>'


def _marks(axes: _Axes, ours: Timeline) -> Iterator[str]:
    """Shade our rebuilds, and name what begins and ends."""
    low, high = axes.y(axes.least), axes.y(axes.most)
    number = 1
    while f"rebuild {number}" in ours.marks:
        x, end = axes.x(ours.marks[f"rebuild {number}"]), axes.x(ours.marks[f"switch {number}"])
        yield f'<rect x="{x:.1f}" y="{high}" width="{end - x:.1f}" height="{low - high:.1f}" fill="#ddf4ff"/>'
        yield _text(end - 4, high - 6, f"our rebuild {number}", anchor="end")
        yield _line(end, high - 16, low, _COLOURS["ours"], "")
        yield _text(end + 4, high - 6, "switch")
        number += 1
    for name, label, anchor in (("beside", "appends begin", "start"), ("alone", "appends end", "end")):
        x = axes.x(ours.marks[name])
        yield _line(x, high - 2, low, _INK, ' stroke-dasharray="3 3"')
        yield _text(x, high - 20, label, anchor=anchor)


def _line(x: float, high: float, low: float, colour: str, dashes: str) -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{high:.1f}" y2="{low:.1f}" stroke="{colour}"{dashes}/>'


def _curve(axes: _Axes, name: str, line: Timeline) -> str:
    points = " ".join(f"{axes.x(bin_.at_s):.1f},{axes.y(bin_.p99_ms):.1f}" for bin_ in line.bins)
    width = 2 if name == "ours" else 1.2
    colour = _COLOURS.get(name, _FALLBACK)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>'


def _legend(timelines: dict[str, Timeline]) -> Iterator[str]:
    x, y = float(_LEFT), _HEIGHT - 34
    for name, line in timelines.items():
        beside = line.phases["beside"]
        label = f"{line.label.partition(',')[0]}: {beside.rate:,.0f} searches/s, {line.inserted.rate:.0f} inserts/s"
        width = 34 + _LETTER_PX * len(label)
        if x + width > _WIDTH - _RIGHT:
            x, y = float(_LEFT), y + 20
        colour = _COLOURS.get(name, _FALLBACK)
        yield f'<line x1="{x}" x2="{x + 18}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2.5"/>'
        yield _text(x + 24, y, label)
        x += width


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, weight: int = 400) -> str:
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def main() -> None:
    """Draw kept timelines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("timelines", type=Path)
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    timelines = msgspec.json.decode(given.timelines.read_bytes(), type=dict[str, Timeline])
    given.picture.write_text(picture(timelines))


if __name__ == "__main__":
    main()
