"""The tables of a mixed run, and what has to be reached."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from benchmarks.mixed_ours import AROUND_S, Ours
from benchmarks.mixed_timeline import Phase, Timeline
from benchmarks.workload import DIMENSION

_KEPT_MIN = 0.85
_TAIL_MAX = 1.5
_GROWTH_MAX = 1.05
_SHOWN = 5


def tables(timelines: dict[str, Timeline], ours: Ours) -> Iterator[Table]:
    """Yield all tables."""
    yield _all(timelines)
    yield _rebuilds(ours)
    yield _bars(ours)


def _all(timelines: dict[str, Timeline]) -> Table:
    columns = ("alone: /s", "p50 ms", "p99 ms", "beside: /s", "p50 ms", "p99 ms", "worst ms", "kept", "p99 times")
    table = Table("searches", *columns, "inserts/s", "p99 ms", title="Searches alone and beside inserts")
    for line in timelines.values():
        idle, beside = line.phases["idle"], line.phases["beside"]
        table.add_row(
            line.label,
            *(f"{idle.rate:,.0f}", f"{idle.p50_ms:.1f}", f"{idle.p99_ms:.1f}"),
            *(f"{beside.rate:,.0f}", f"{beside.p50_ms:.1f}", f"{beside.p99_ms:.1f}", f"{beside.max_ms:.0f}"),
            *(f"{beside.rate / idle.rate:.2f}", f"{beside.p99_ms / idle.p99_ms:.1f}"),
            *(f"{line.inserted.rate:.0f}", f"{line.inserted.p99_ms:.1f}"),
        )
    return table


def _rebuilds(ours: Ours) -> Table:
    title = "Our rebuilds and switches, all beside appends"
    table = Table("", "seconds", "share of all cores", "switch after s", title=title)
    for number, rebuild in enumerate(ours.rebuilds, start=1):
        seconds = f"{rebuild.built - rebuild.began:.1f}"
        table.add_row(f"rebuild {number}", seconds, f"{rebuild.share:.2f}", f"{rebuild.switched - rebuild.built:.2f}")
    near = f"within {AROUND_S:.0f} s of a switch"
    rows = (
        ("searches while building", ours.searches.building),
        (f"searches {near}", ours.searches.around),
        ("appends while building", ours.appends.building),
        (f"appends {near}", ours.appends.around),
    )
    for name, found in rows:
        table.add_row(name, _words(found), "", "")
    return table


def _words(found: Phase) -> str:
    return f"{found.rate:,.0f}/s, p50 {found.p50_ms:.1f}, p99 {found.p99_ms:.1f}, worst {found.max_ms:.0f} ms"


def _bars(ours: Ours) -> Table:
    idle, beside = ours.timeline.phases["idle"], ours.timeline.phases["beside"]
    share = sum(rebuild.share for rebuild in ours.rebuilds) / max(1, len(ours.rebuilds))
    kept = ours.searches.building.rate / idle.rate / (1 - share)
    table = Table("bar", "measured", "needed", "", title="What has to be reached")
    rows = (
        ("throughput kept while building, outside the build's share", f"{kept:.2f}", kept >= _KEPT_MIN, _KEPT_MIN),
        ("throughput kept beside appends, rebuilds included", f"{beside.rate / idle.rate:.2f}", None, ""),
        *(
            (f"p99 {name}, times idle", f"{found.p99_ms / idle.p99_ms:.2f}", found.p99_ms <= _TAIL_MAX * idle.p99_ms,
             _TAIL_MAX)
            for name, found in (("beside appends", beside), ("while building", ours.searches.building),
                                ("around a switch", ours.searches.around))
        ),
        ("answers refused or failed", str(ours.refused), ours.refused == 0, 0),
        (f"wrong, of {ours.checked:,} answers and {ours.probes} probes", str(len(ours.wrong)), not ours.wrong, 0),
        _memory(ours),
    )  # fmt: skip
    for name, measured, met, needed in rows:
        verdict = "" if met is None else "pass" if met else "[bold red]MISS[/]"
        table.add_row(name, measured, str(needed), verdict)
    for fault in ours.wrong[:_SHOWN]:
        table.add_row(fault, "", "", "")
    return table


def _memory(ours: Ours) -> tuple[str, str, bool, float]:
    rows_mib = ours.appended * 4 * DIMENSION / 2**20
    growth = (ours.after.private_mib - rows_mib) / ours.before.private_mib
    readings = f"{ours.before.private_mib:.0f} to {ours.after.private_mib:.0f} MiB, {rows_mib:.0f} of vectors appended"
    return (
        "private memory after, without those, times before",
        f"{growth:.2f} ({readings})",
        growth <= _GROWTH_MAX,
        _GROWTH_MAX,
    )
