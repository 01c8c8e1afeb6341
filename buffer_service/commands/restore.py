"""``xbuf restore``: makes a new data folder from a backup."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from buffer_service.commands.exits import failed
from buffer_service.core.restoring import restore
from buffer_service.errors import ExperienceBufferError


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        if given.file == "-":
            restored = restore(sys.stdin.buffer, given.data, given.sequence)
        else:
            with Path(given.file).open("rb") as archive:
                restored = restore(archive, given.data, given.sequence)
    except ExperienceBufferError as error:
        return failed("restore", error)
    except OSError as error:
        return failed("restore", error, "; nothing was made")
    sys.stdout.write(f"{given.data}: sequence {restored.sequence}, {restored.count} experiences\n")
    return 0
