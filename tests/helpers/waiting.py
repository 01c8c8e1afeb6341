"""Waiting for something to become true, with a deadline that fails the test."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(probe: Callable[[], T], what: str, timeout_s: float = 30.0, interval_s: float = 0.02) -> T:
    """Call the probe until it returns something true, and return that; fails naming what did not happen."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}; last seen: {found!r}")
        time.sleep(interval_s)
