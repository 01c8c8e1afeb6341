"""How much of the cores a hypervisor kept from this machine while a benchmark ran.

It does so for milliseconds at a time, so it shows in the 99th percentiles first: of these a run that lost several
hundredths says little.
"""

from __future__ import annotations

from pathlib import Path

_STAT = Path("/proc/stat")
_IDLE, _WAITING, _STOLEN, _FIELDS = 3, 4, 7, 8
"""Places in the first line of the file, in proc(5); what comes after is counted in these already."""


class Stolen:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._began = _ticks()

    def note(self) -> str:
        """Say the share, of the time for which the cores were wanted."""
        ticks = [now - then for now, then in zip(_ticks(), self._began, strict=True)]
        wanted = sum(ticks) - ticks[_IDLE] - ticks[_WAITING]
        return f"the hypervisor kept {ticks[_STOLEN] / max(1, wanted):.1%} of the cores' time that was wanted to itself"


def _ticks() -> list[int]:
    return [int(field) for field in _STAT.read_text().split("\n", 1)[0].split()[1 : 1 + _FIELDS]]
