"""What tests of builders start from."""

from __future__ import annotations

from buffer_operator.observing.observed import Buffer


def a_buffer() -> Buffer:
    """Return the buffer ``demo``."""
    return Buffer(
        namespace="ns",
        name="demo",
        uid="u",
        generation=1,
        deleting=False,
        spec=None,
        invalid="",
        status={},
        resource={},
    )
