"""Power loss at every point of random histories of the file store, on a simulated disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.simulated_fs import SimulatedFileSystem
from tests.helpers.storage_simulation import History

HISTORIES = int(os.environ.get("XBUF_TEST_HISTORIES", "32"))
"""Each has hundreds of crash points; ``make faults`` asks for thousands of histories."""
COMMITS = 40
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_power_loss_before_any_operation_of_the_disk_loses_nothing_acknowledged(part: int) -> None:
    """After any prefix of the disk's operations, what is acknowledged is there and nothing is half there."""
    points = 0
    for seed in range(part, HISTORIES, PARTS):
        system = SimulatedFileSystem(seed)
        history = History(seed, system)

        def check(_kind: str, _path: Path, history: History = history) -> None:
            nonlocal points
            points += 1
            history.check_power_loss(points)

        system.before_step = check
        for _ in range(COMMITS):
            history.commit()
            check("acknowledged", Path())
    assert points > HISTORIES / PARTS * COMMITS * 2


@pytest.mark.parametrize("part", range(PARTS))
def test_power_loss_during_recovery_loses_nothing_either(part: int) -> None:
    """Recovery itself may be cut short anywhere, and again, and the next one still finds everything."""
    for seed in range(part, HISTORIES, PARTS):
        system = SimulatedFileSystem(seed)
        history = History(seed, system)
        for _ in range(seed % COMMITS):
            history.commit()
        # An unfinished commit, so that recovery has a tail to cut.
        system.power_off_at = system.steps + 1 + seed % 3
        history.lose_power_in_a_commit()
        for attempt in range(6):
            system = system.after_power_loss(seed + attempt)
            system.power_off_at = 1 + attempt
            history.recover_until_power_loss(system)
        history.check_recovery_of(system.after_power_loss(seed))
