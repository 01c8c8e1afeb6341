"""What the demo shows: a live panel on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from buffer_service.demo.checks import Check
from buffer_service.demo.progress import RECENT, Progress

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_POINTS = 60
_LINE_EVERY_STEPS = 200
_REFRESH_INTERVAL_S = 0.1


def sparkline(values: Sequence[float]) -> str:
    """Return one block character per value in [0, 1]."""
    return "".join(_BARS[min(len(_BARS) - 1, int(value * len(_BARS)))] for value in values)


class View:
    """Shows a Progress. Use as a context manager around the run."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._shown_at = 0.0
        self._note = ""

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._panel(), refresh=True)
            self._live.stop()

    def step(self) -> None:
        """Show the progress again, where enough has changed or passed."""
        now = time.monotonic()
        if self._live:
            if now - self._shown_at >= _REFRESH_INTERVAL_S:
                self._shown_at = now
                self._live.update(self._panel(), refresh=True)
        elif len(self._progress.correct) % _LINE_EVERY_STEPS == 0:
            self._console.print(self._line(), highlight=False)

    def note(self, text: str) -> None:
        """Say what is going on beside the stream."""
        self._note = text
        if not self._live:
            self._console.print(text, highlight=False)

    def _line(self) -> str:
        progress = self._progress
        return (
            f"{len(progress.correct):5d}/{progress.total}  accuracy {progress.accuracy(RECENT):6.1%} (last {RECENT})  "
            f"generation {progress.generation}  switches {len(progress.switches)}  "
            f"search p50 {progress.latency_ms(50):.1f} ms p99 {progress.latency_ms(99):.1f} ms"
        )

    def _panel(self) -> Panel:
        progress = self._progress
        done = len(progress.correct)
        figures = Table.grid(padding=(0, 3))
        figures.add_row(
            f"accuracy [bold]{progress.accuracy(RECENT):.1%}[/] of the last {RECENT}, {progress.accuracy():.1%} of all",
            f"generation [bold]{progress.generation}[/], {len(progress.switches)} switches",
        )
        figures.add_row(
            f"{len(progress.acknowledged)} experiences, {progress.outcomes} outcomes, {progress.priorities} priorities",
            f"search p50 {progress.latency_ms(50):.1f} ms, p99 {progress.latency_ms(99):.1f} ms",
        )
        parts: list[RenderableType] = [
            Padding(ProgressBar(total=progress.total, completed=done), (0, 0, 1, 0)),
            Text(sparkline(progress.curve(_CURVE_POINTS)), style="green"),
            figures,
            Text(self._note, style="dim"),
        ]
        return Panel(Group(*parts), title=f"learning digits from experience · {done}/{progress.total}", padding=(1, 2))


def show_checks(console: Console, checks: Sequence[Check]) -> None:
    """Print the checks as a table."""
    table = Table(title="Checks", show_header=False, title_justify="left")
    for check in checks:
        mark = "[green]✓[/]" if check.holds else "[red]✗[/]"
        table.add_row(mark, check.statement, Text(check.figures))
    console.print(table)
