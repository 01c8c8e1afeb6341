"""The repository's layout keeps promises that tools do not check."""

from __future__ import annotations

import operator
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_operator_folder_does_not_shadow_the_standard_library() -> None:
    """operator/ is a plain folder; with an __init__.py half of Python would break from the repository's root."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert Path(operator.__file__).is_relative_to(sysconfig.get_path("stdlib"))


def test_no_source_file_outgrows_one_concept() -> None:
    """About 300 lines is where a file is split."""
    folders = [ROOT / "buffer_service", ROOT / "buffer_client", ROOT / "operator"]
    lengths = {path: len(path.read_text().splitlines()) for folder in folders for path in folder.rglob("*.py")}

    assert {str(path.relative_to(ROOT)): count for path, count in lengths.items() if count > 320} == {}
