"""The table of faults is whole, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = 56
_ROW = re.compile(r"\| (?P<number>\d+) [FLBXAO] \| .+ \| (?P<promise>.+) \| (?P<tests>.*)\|")
_TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<name>test_\w+)`")
_EXCEPTED = ("**not promised**", "**not applicable**", "**not covered**")

LINES = (ROOT / "docs" / "faults.md").read_text().splitlines()
ROWS = [found for line in LINES if (found := _ROW.fullmatch(line))]


def test_every_case_has_a_row_in_order() -> None:
    """Numbers from 1 on, each once."""
    assert [int(row["number"]) for row in ROWS] == list(range(1, CASES + 1))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["number"])
def test_every_row_names_tests_that_are_there_or_says_why_not(row: re.Match[str]) -> None:
    """A promise that nothing shows is no promise."""
    named = list(_TEST.finditer(row["tests"]))
    assert named or any(reason in row["promise"] for reason in _EXCEPTED)
    assert _TEST.sub("", row["tests"]).strip() == ""
    for test in named:
        tree = ast.parse((ROOT / test["file"]).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert test["name"] in functions
