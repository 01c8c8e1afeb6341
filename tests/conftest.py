"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Take SIGINT as usual: a shell in the background ignores it, and what the tests start would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
