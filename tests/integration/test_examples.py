"""The examples as they are run: in a process of their own, with a buffer of their own or a given one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from buffer_client import BufferClient, Experience
from buffer_service.contract.names import TOKEN_VARIABLE
from tests.helpers.vectors import unit_vectors
from tests.integration.running import running_service

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 110


def run_example(*arguments: str, **environment: str) -> str:
    """Run the example within the time that it promises, and return what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("XBUF_")}
    command = [sys.executable, "examples/online_learning.py", *arguments]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=inherited | environment,
        cwd=ROOT,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    return result.stdout


def test_both_loops_learn_from_one_buffer() -> None:
    """The vote at once, the model with the batches; both name digits that neither has seen, and no update is stale."""
    printed = run_example("--answers", "600", "--seconds", "100")

    vote, model = (float(share) for share in re.findall(r"([\d.]+)% are named rightly", printed))
    assert vote > 90
    assert model > 80
    *_, last = [line.split() for line in printed.splitlines() if re.match(r"\s+\d+\s", line)]
    answers, _, _, batches, priorities, stale = last
    assert (answers, stale) == ("600", "0")
    assert int(priorities) == 64 * int(batches) > 0
    assert "600 answers and 300 batches of 64" in printed


def test_a_buffer_that_is_shared_teaches_each_run_its_own(tmp_path: Path) -> None:
    """Others' experiences neither vote nor train; the token is taken from the environment."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "write").write_text("write-token")
    with running_service(tmp_path / "data", embedding__dimension=64, auth__tokens_dir=tokens) as service:
        with BufferClient(service.url, token="write-token") as client:  # noqa: S106 - of this test alone
            client.append_stream(Experience(visual=vector, confidence=0.5) for vector in unit_vectors(100, 64))

        printed = run_example("--url", service.url, "--answers", "200", **{TOKEN_VARIABLE: "write-token"})

        with BufferClient(service.url, token="write-token") as client:  # noqa: S106 - of this test alone
            walked = list(client.experiences(limit=1000))
    assert "200 answers and" in printed
    assert [item.metadata is None for item in walked] == [True] * 100 + [False] * 200
    assert all(item.outcome_count == 0 and item.priority < 1.0 for item in walked[:100])


def test_the_time_given_ends_the_run() -> None:
    """Whatever is left to do."""
    printed = run_example("--seconds", "2")

    answers = re.search(r"(\d+) answers and (\d+) batches", printed)
    assert answers
    assert 0 < int(answers[1]) <= 1200
