"""The known-bad variants that `make mutants` tries are variants of the product as it is."""

from __future__ import annotations

import pytest

from tests.faults.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_changes_stands_once_in_its_file(mutant: Mutant) -> None:
    """Else it would change nothing, or more than it says, and the tests that it names would prove nothing."""
    assert (ROOT / mutant.file).read_text().count(mutant.before) == 1
    assert mutant.after != mutant.before


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_are_to_notice_a_mutant_are_there(mutant: Mutant) -> None:
    """By their paths."""
    assert all((ROOT / path).is_file() for path in mutant.tests.split())
