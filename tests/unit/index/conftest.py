"""Fixtures of the tests of the index."""

from __future__ import annotations

import pytest

from tests.helpers.gpu import Device, stand_in


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device that FAISS says is there."""
    return stand_in(monkeypatch)
