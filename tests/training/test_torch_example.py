"""The example of prioritised replay with PyTorch, as it is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_model_learns_from_what_spawned_workers_draw() -> None:
    """Every row of every batch is answered with a priority, and the digits that were held out are named rightly."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("XBUF_")}
    command = [sys.executable, "examples/torch_replay.py", "--batches", "120", "--workers", "1"]

    result = subprocess.run(command, capture_output=True, text=True, env=inherited, cwd=ROOT, timeout=110, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    accuracy = re.search(r"([\d.]+)% of 297 unseen", result.stdout)
    assert accuracy
    assert float(accuracy[1]) > 85
    counts = dict(re.findall(r"(\w+) (\w+)", result.stdout.partition("priorities: ")[2].partition("\n")[0]))
    assert sum(map(int, counts)) == 120 * 64
    assert "applied" in counts.values()
