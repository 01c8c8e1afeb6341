"""The demo as it is run: in a process of its own, against real services."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from buffer_client import BufferClient, Experience
from buffer_service.demo.progress import Progress
from buffer_service.demo.view import sparkline
from tests.helpers.vectors import unit_vectors
from tests.integration.running import running_service

DEMO = (sys.executable, "-m", "buffer_service.cli", "demo")


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XBUF_")}
    return subprocess.run(
        [*DEMO, *arguments], capture_output=True, text=True, env=environment, timeout=110, check=False
    )


def test_the_learner_learns_while_the_index_is_swapped_under_it(tmp_path: Path) -> None:
    """All checks hold, the exit code says so, and nothing is left running or lying about but the data."""
    result = run_demo("--once", "--port", "0", "--data", str(tmp_path / "data"))

    assert result.returncode == 0, result.stdout + result.stderr
    assert (result.stdout.count("✓"), result.stdout.count("✗")) == (6, 0)
    switches = re.search(r"(\d+) switches, 2 wanted", result.stdout)
    assert switches
    assert int(switches[1]) >= 2
    (url,) = re.findall(r"buffer at (http://\S+):", result.stdout)
    with BufferClient(url, retries=0) as client, pytest.raises(Exception, match="ConnectError"):
        client.status()


def test_a_buffer_that_is_not_empty_does_and_a_failed_check_is_told(tmp_path: Path) -> None:
    """Only its own experiences vote and count; a check that fails makes the exit code 1."""
    with running_service(tmp_path / "data", embedding__dimension=64, rebuild__every_operations=500) as service:
        with BufferClient(service.url) as client:
            others = unit_vectors(300, 64)
            client.append([Experience(visual=vector, confidence=0.5) for vector in others])

        result = run_demo("--url", service.url, "--switches", "1000", "--patience-s", "0")

    assert result.returncode == 1, result.stdout + result.stderr
    assert "holds 300 experiences already" in result.stdout
    (failed,) = [line for line in result.stdout.splitlines() if "✗" in line]
    assert "swapped" in failed
    assert "1797 acknowledged, 1797 walked, 2097 counted" in result.stdout


def test_a_buffer_of_another_dimension_is_declined(tmp_path: Path) -> None:
    """The digits have 64 pixels."""
    with running_service(tmp_path / "data") as service:
        result = run_demo("--url", service.url)

    assert result.returncode == 2
    assert "dimension 8" in result.stdout


def test_a_service_that_cannot_start_is_explained(tmp_path: Path) -> None:
    """With the end of its log."""
    with running_service(tmp_path / "data", embedding__dimension=64):
        result = run_demo("--once", "--port", "0", "--data", str(tmp_path / "data"))

    assert result.returncode == 2
    assert "did not start" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_takes_its_service_down_with_it(tmp_path: Path, number: signal.Signals) -> None:
    """Interrupted in the middle of the stream."""
    with subprocess.Popen([*DEMO, "--port", "0", "--data", str(tmp_path)], stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout
            url = demo.stdout.readline().split()[2].rstrip(":;")
            demo.send_signal(number)
            demo.communicate(timeout=60)
        finally:
            demo.kill()  # where it has not ended by itself, which has failed the test

    assert demo.returncode == 128 + number
    with BufferClient(url, retries=0) as client, pytest.raises(Exception, match="ConnectError"):
        client.status()


def test_the_curve_cuts_the_whole_run_into_equal_stretches() -> None:
    """A half-done run shows half of the points."""
    progress = Progress(total=100, run_id="r", generation=0, correct=[False] * 25 + [True] * 25)

    assert progress.curve(10) == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert progress.accuracy() == 0.5
    assert progress.accuracy(last=10) == 1.0


def test_a_switch_is_a_change_of_the_generation_that_answers() -> None:
    """As a reader sees it, with the step at which it did."""
    progress = Progress(total=10, run_id="r", generation=3)

    for generation in (3, 3, 4, 4, 3):
        progress.saw_generation(generation)
        progress.correct.append(True)

    assert [(switch.step, switch.generation) for switch in progress.switches] == [(2, 4), (4, 3)]
