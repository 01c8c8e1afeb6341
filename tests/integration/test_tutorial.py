"""The tutorial as it is read: its Python in order, as one script, against a service started as it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.integration.running import running_service

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
SECONDS_MAX = 100
SHARES = {"trained model": 85.0, "ranked vote": 95.0}
"""Least percentage that each learner reaches."""


def blocks(language: str) -> list[str]:
    """Return the page's blocks of code in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def shape(printed: str) -> str:
    """Return the words that were printed, with one sign for every number."""
    return " ".join(re.sub(r"\d+(\.\d+)?", "N", printed).split())


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    """It prints what the page shows, but for the numbers; both learners have learnt."""
    with running_service(tmp_path / "memory", embedding__dimension=64) as service:
        script = tmp_path / "tutorial.py"
        script.write_text("".join(blocks("python")).replace("http://127.0.0.1:8080", service.url))
        done = subprocess.run(
            [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS_MAX, check=False
        )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert shape(done.stdout) == shape("".join(blocks("text")))
    first, following = (int(count) for count in re.findall(r"answers (\d+) are right", done.stdout))
    assert first > 200
    assert following > 1100
    for learner, least in SHARES.items():
        (share,) = re.findall(rf"{learner} names ([\d.]+)%", done.stdout)
        assert float(share) > least
