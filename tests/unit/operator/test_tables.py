"""Every claim of the tables about the control plane names a test, and every test that is named is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_PAGES = ("faults-operator.md", "capability-levels.md")
_ROW = re.compile(r"\| (?P<claim>(?!fault|claim|---)[^|]+) \| [^|]+ \| (?P<tests>[^|]*)\|")
_TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<name>test_\w+)`")

LINES = [line for page in _PAGES for line in (ROOT / "docs" / page).read_text().splitlines()]
ROWS = [found for line in LINES if (found := _ROW.fullmatch(line))]


def test_every_line_of_the_tables_is_read() -> None:
    """A row that the pattern misses would not be checked."""
    heads = sum(line.startswith(("| fault |", "| claim |", "|---|")) for line in LINES)
    assert len(ROWS) == sum(line.startswith("|") for line in LINES) - heads


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["claim"])
def test_every_row_names_tests_that_are_there(row: re.Match[str]) -> None:
    """A promise that nothing shows is no promise."""
    named = list(_TEST.finditer(row["tests"]))
    assert named
    assert _TEST.sub("", row["tests"]).strip() == ""
    for test in named:
        tree = ast.parse((ROOT / test["file"]).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert test["name"] in functions
